"""Other people's lists of binaries: read as they come, matched with a catalog's stars, and how many it finds."""
