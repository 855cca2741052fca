"""Training sets and the ensembles that are trained on them."""
