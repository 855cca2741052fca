"""The test suite; a package, since others that are installed call theirs `tests`, too (f90nml does)."""
