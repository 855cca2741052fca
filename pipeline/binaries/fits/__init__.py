"""A survey's two-star fits: planned, fitted over a Dask client, kept beside the catalogs."""
