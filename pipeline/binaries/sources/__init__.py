"""From exposures to stars: what all epochs of each say together, over a survey."""
