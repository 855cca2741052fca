"""Twinlines: double-lined binaries in survey spectra."""
