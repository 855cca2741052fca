"""Synthetic pairs of a single star and a binary: priors, populations, light, and what a survey does to it."""
