"""Eclipsing binaries with known periods: whether two stars are seen when they should be, against orbital phase."""
