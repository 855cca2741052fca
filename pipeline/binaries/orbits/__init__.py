"""Orbits of double-lined binaries from their velocities. Knows no survey."""
