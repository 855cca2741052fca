"""Whether a star is a double-lined binary, by all of its exposures; also whether it is a single-lined one."""
