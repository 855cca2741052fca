"""Stellar tracks: the state of a star of given mass, composition and age, and where tracks come from."""
