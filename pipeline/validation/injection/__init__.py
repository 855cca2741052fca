"""A survey's own single spectra, combined into known binaries, and what the whole chain finds of them."""
