"""From presumed single stars to p-values, a prevalence, and candidates at a stated false discovery rate."""
