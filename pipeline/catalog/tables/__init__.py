"""Tables that open everywhere: rows of a catalog, of fits or of stars, streamed into the formats of others' tools."""
