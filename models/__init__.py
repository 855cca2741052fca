"""The networks: arrays and stored pairs go in, probabilities come out. Knows no survey and no Dask."""
