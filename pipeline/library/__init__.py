"""The spectral library: interpolation, how it is packed, and how the grids of others become one."""
