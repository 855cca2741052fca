"""Tasks over a Dask client: one engine, done-markers, locks, and what a job will need of memory and disk."""
