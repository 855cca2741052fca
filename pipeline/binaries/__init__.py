"""Two-star fits, sources over their epochs, and orbits."""
