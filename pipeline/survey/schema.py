"""What the index beside a catalog stores: the fields of its records, which are packed little-endian."""

from __future__ import annotations

INDEX_VERSION = 1
"""Version of the index beside a catalog; an index of another one is not used."""

INDEX_ROW = [("ra", "<f8"), ("dec", "<f8"), ("bjdmid", "<f8")]
"""What the index has of each row, in the catalog's order: position (deg) and time (d), as in the catalog."""

INDEX_KEY = [("obsid", "<i8"), ("row", "<i4")]
"""Entries of the index by obsid: sorted by it, then by row of the catalog."""

INDEX_BLOCK = [
    *(("x", "<f8"), ("y", "<f8"), ("z", "<f8"), ("reach", "<f8")),
    *(("rows_crc", "<u4"), ("obsid", "<i8"), ("keys_crc", "<u4")),
]
"""What the index has of each block of rows: the middle of its positions as a unit vector, how far the farthest is from
there (chord; negative: there is none), and CRC-32; of each block of entries by obsid: the first obsid, and CRC-32."""
