"""What follows the verdict: two velocities of each exposure, sources over their epochs, orbits."""
