"""The fit of one star and of two to exposures: the model, where fits begin, and what they tell. Knows no survey."""
