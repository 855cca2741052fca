"""How good an ensemble is, on pairs that training never saw."""
