"""Which star is which over the epochs of a source; mass ratios, without a period."""
