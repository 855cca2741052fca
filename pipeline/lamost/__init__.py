"""LAMOST's medium-resolution files: read, written, dated; the only room that knows their layout."""
