"""Files that are there whole or not at all, and Zarr stores: how anything is put on a disk."""
