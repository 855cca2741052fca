"""Tables that users bring: read whatever their format, columns told by their usual names, stars found in others."""
