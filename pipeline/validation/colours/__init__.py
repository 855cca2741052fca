"""Colours and distances of a catalog's stars: extinction, the colour-magnitude diagram, a catalog with colours."""
