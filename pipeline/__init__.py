"""The science and the batch job, in the order in which data flows."""
