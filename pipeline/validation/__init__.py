"""How far a catalog can be trusted: nulls, calibration, injection into its own spectra, other people's lists."""
