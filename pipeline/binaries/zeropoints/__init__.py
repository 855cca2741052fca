"""Velocities on one scale: zero points of spectrographs, exposures and arms."""
