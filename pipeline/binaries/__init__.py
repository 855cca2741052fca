"""Binaries over their exposures: velocities on one scale, fits of two stars, orbits."""
