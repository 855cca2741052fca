"""From a folder of FITS files to an immutable release."""
