"""From one observed spectrum to a velocity and a verdict: despiking, continuum, correlation, inference."""
