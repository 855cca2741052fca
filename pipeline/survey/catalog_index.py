"""The index beside a catalog: which rows lie near a position, and which are of an obsid, without reading the catalog.

A file of 36 bytes a row: rows' positions and times in the catalog's order, and their obsids, sorted. Both are cut into
blocks; of each block the head of the file knows where on the sky it is, or its first obsid, and its checksum. The head
is read when the index is opened, and checked; a question reads the few blocks that matter, and checks these. So nothing
damaged is ever believed, and a question costs the same in a larger catalog. The head names the catalog by a hash of all
of its contents: an index of another one, or of the same one before it was made again, is not used.

    8 bytes "TWLINDEX", 4 bytes CRC-32 of the head, 4 bytes its length, the head: a line of JSON, then the blocks
    (``schema.INDEX_BLOCK``); then rows (``INDEX_ROW``), then entries by obsid (``INDEX_KEY``)
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from astropy.coordinates import angular_separation
from numpy.typing import NDArray

from twinlines.pipeline.storage import atomic
from twinlines.pipeline.survey.schema import INDEX_BLOCK, INDEX_KEY, INDEX_ROW, INDEX_VERSION

BLOCK_ROWS = 1024
"""Rows of a block."""

_MAGIC = b"TWLINDEX"
_ROW, _KEY, _BLOCK = np.dtype(INDEX_ROW), np.dtype(INDEX_KEY), np.dtype(INDEX_BLOCK)
_LEAST = struct.calcsize("<8sII")
_ROUNDING = 1e-12  # of unit vectors and chords
_ROUNDING_DEG = 1e-9
_TOGETHER = 256  # blocks that are looked at at a time: 6 MB


class CatalogIndexError(RuntimeError):
    """An index is damaged, or of another catalog or version."""


@dataclass(frozen=True)
class Near:
    """Rows of a catalog around a position."""

    row: NDArray[np.int64]
    """(row,) their numbers, nearest first."""
    distance: NDArray[np.float64]
    """(row,) their distances, radians."""
    bjdmid: NDArray[np.float64]
    """(row,) their times, as in the catalog."""


@dataclass(frozen=True)
class CatalogIndex:
    """An index, open: its head is in memory, blocks are read when they are asked for."""

    path: Path
    """The file."""
    rows: int
    """Rows of the catalog."""
    begin: int
    """Where in the file the rows begin, bytes."""
    blocks: NDArray[np.void]
    """(block,) of :data:`twinlines.pipeline.survey.schema.INDEX_BLOCK`."""

    @classmethod
    def open(cls, path: Path, catalog: str, rows: int) -> CatalogIndex:
        """Open the index of a catalog.

        Parameters
        ----------
        path
            The file.
        catalog
            What the catalog is known by; see :attr:`twinlines.pipeline.storage.columns.Store.identity`.
        rows
            Rows of the catalog.

        Raises
        ------
        CatalogIndexError
            If it is damaged, or of another catalog or version.
        OSError
            If there is none, or it cannot be read.
        """
        with path.open("rb") as file:
            lead = file.read(_LEAST)
            if len(lead) < _LEAST or lead[:8] != _MAGIC:
                raise CatalogIndexError(f"{path} is no index of a catalog")
            _, checksum, length = struct.unpack("<8sII", lead)
            head = file.read(length)
            size = os.fstat(file.fileno()).st_size
        if len(head) != length or zlib.crc32(head) != checksum:
            raise CatalogIndexError(f"{path} is damaged: its head has another checksum than it says")
        line, _, table = head.partition(b"\n")
        about: dict[str, Any] = json.loads(line)
        if about["version"] != INDEX_VERSION:
            raise CatalogIndexError(f"{path} has version {about['version']}, and this code reads {INDEX_VERSION}")
        if about["catalog"] != catalog or about["rows"] != rows:
            raise CatalogIndexError(f"{path} is of another catalog than the one beside it")
        if size != _LEAST + length + rows * (_ROW.itemsize + _KEY.itemsize) or about["block_rows"] != BLOCK_ROWS:
            raise CatalogIndexError(f"{path} is damaged: it has {size} bytes, and not those of {rows} rows")
        return cls(path, rows, _LEAST + length, np.frombuffer(table, _BLOCK))

    def of_obsid(self, obsid: int) -> NDArray[np.int64]:
        """Rows of an obsid, ascending, shape (row,); empty if there is none.

        Raises
        ------
        CatalogIndexError
            If what it reads of the file is damaged.
        """
        first = max(int(np.searchsorted(self.blocks["obsid"], obsid, side="left")) - 1, 0)
        last = int(np.searchsorted(self.blocks["obsid"], obsid, side="right"))
        if last == 0:
            return np.empty(0, np.int64)
        with self.path.open("rb") as file:
            keys = self._read(file.fileno(), first, last, _KEY)
        sorted_obsids = np.ascontiguousarray(keys["obsid"])
        begin, end = (int(np.searchsorted(sorted_obsids, obsid, side=side)) for side in ("left", "right"))
        return keys["row"][begin:end].astype(np.int64)

    def near(self, ra: float, dec: float, radius: float) -> Near:
        """Rows within an angle of a position, nearest first, then by row.

        Parameters
        ----------
        ra, dec
            The position, deg.
        radius
            The angle, radians.

        Raises
        ------
        CatalogIndexError
            If what it reads of the file is damaged.
        """
        lon, lat = np.radians(ra), np.radians(dec)
        low, high = dec - np.degrees(radius) - _ROUNDING_DEG, dec + np.degrees(radius) + _ROUNDING_DEG
        row, distance, bjdmid = [np.empty(0, np.int64)], [np.empty(0)], [np.empty(0)]
        for start, records in self._around(float(lon), float(lat), radius):
            height = records["dec"]  # positions that are missing, or impossible, are near nothing
            high_enough = (height >= max(low, -90.0)) & (height <= min(high, 90.0)) & np.isfinite(records["ra"])
            near = np.flatnonzero(high_enough)
            if not len(near):
                continue
            apart = angular_separation(lon, lat, np.radians(records["ra"][near]), np.radians(height[near]))
            inside = apart <= radius
            row.append(start + near[inside])
            distance.append(apart[inside])
            bjdmid.append(records["bjdmid"][near[inside]])
        rows, apart = np.concatenate(row), np.concatenate(distance)
        order = np.lexsort((rows, apart))
        return Near(rows[order], apart[order], np.concatenate(bjdmid)[order])

    def at(self, row: int) -> tuple[float, float]:
        """Position of a row, deg.

        Raises
        ------
        CatalogIndexError
            If what it reads of the file is damaged.
        """
        block = row // BLOCK_ROWS
        with self.path.open("rb") as file:
            record = self._read(file.fileno(), block, block + 1, _ROW)[row - block * BLOCK_ROWS]
        return float(record["ra"]), float(record["dec"])

    def check(self) -> None:
        """Read all of it.

        Raises
        ------
        CatalogIndexError
            If any block is damaged.
        """
        with self.path.open("rb") as file:
            for first in range(0, len(self.blocks), _TOGETHER):
                for dtype in (_ROW, _KEY):
                    self._read(file.fileno(), first, min(first + _TOGETHER, len(self.blocks)), dtype)

    def _around(self, lon: float, lat: float, radius: float) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Blocks that reach into a cone, some at a time, with their first rows."""
        blocks = self.blocks
        x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
        chord = np.sqrt((blocks["x"] - x) ** 2 + (blocks["y"] - y) ** 2 + (blocks["z"] - z) ** 2)
        reach = blocks["reach"] + 2.0 * np.sin(radius / 2.0) + _ROUNDING  # the way over a third point is no shorter
        wanted = np.flatnonzero((blocks["reach"] >= 0.0) & (chord <= reach))
        if not len(wanted):
            return
        with self.path.open("rb") as file:
            for run in np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1):
                for first in range(int(run[0]), int(run[-1]) + 1, _TOGETHER):
                    last = min(first + _TOGETHER, int(run[-1]) + 1)
                    yield first * BLOCK_ROWS, self._read(file.fileno(), first, last, _ROW)

    def _read(self, file: int, first: int, last: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
        """Rows, or entries by obsid, of blocks ``first`` to ``last``, checked."""
        name = "rows_crc" if dtype == _ROW else "keys_crc"
        begin = self.begin + (self.rows * _ROW.itemsize if dtype == _KEY else 0)
        size = dtype.itemsize * BLOCK_ROWS
        wanted = dtype.itemsize * min(self.rows, last * BLOCK_ROWS) - first * size
        data = memoryview(os.pread(file, wanted, begin + first * size))
        for block in range(first, last):
            place = (block - first) * size
            if zlib.crc32(data[place : place + size]) != self.blocks[name][block]:
                raise CatalogIndexError(
                    f"{self.path} is damaged: block {block} has another checksum than its head says"
                )
        return np.frombuffer(data, dtype)


def write(path: Path, catalog: str, rows: int, column: Callable[[str], NDArray[Any]]) -> None:
    """Write the index of a catalog, whole or not at all; one that is there is replaced.

    Parameters
    ----------
    path
        The file.
    catalog
        What the catalog is known by.
    rows
        Its rows.
    column
        Reads one of its columns by name, (row,); they are read one after the other, so that few are in memory.
    """
    starts = range(0, rows, BLOCK_ROWS)
    blocks = np.zeros(len(starts), _BLOCK)
    about = {"version": INDEX_VERSION, "catalog": catalog, "rows": rows, "block_rows": BLOCK_ROWS}
    line = json.dumps(about).encode() + b"\n"
    aside = path.with_name(f".{path.name}.{os.getpid()}-{uuid4().hex[:8]}.tmp")
    try:
        with atomic.naming(path), aside.open("wb") as file:
            file.seek(_LEAST + len(line) + blocks.nbytes)
            records = np.empty(rows, _ROW)
            for name in _ROW.names or ():
                records[name] = column(name)
            for block, start in enumerate(starts):
                mine = records[start : start + BLOCK_ROWS]
                for name, value in zip(("x", "y", "z", "reach"), _cap(mine["ra"], mine["dec"]), strict=True):
                    blocks[name][block] = value
                blocks["rows_crc"][block] = zlib.crc32(mine.tobytes())
            file.write(records.data)
            del records
            obsid = column("obsid")
            order = np.argsort(obsid, kind="stable")
            for block, start in enumerate(starts):
                own = order[start : start + BLOCK_ROWS]
                keys = np.empty(len(own), _KEY)
                keys["row"], keys["obsid"] = own, obsid[own]
                blocks["obsid"][block], blocks["keys_crc"][block] = keys["obsid"][0], zlib.crc32(keys.tobytes())
                file.write(keys.data)
            head = line + blocks.tobytes()
            file.seek(0)
            file.write(struct.pack("<8sII", _MAGIC, zlib.crc32(head), len(head)) + head)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    atomic.sync_folder(path.parent)


def _cap(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """The middle of some positions, deg, as a unit vector, and the longest chord from there; negative without any."""
    good = np.isfinite(ra) & (np.abs(dec) <= 90.0)  # NaN compares false
    if not good.any():
        return 0.0, 0.0, 0.0, -1.0
    lon, lat = np.radians(ra[good]), np.radians(dec[good])
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    middle = points.mean(axis=1)
    length = float(np.linalg.norm(middle))
    if length < 1e-6:  # all over the sky: no middle, and none is needed
        return 0.0, 0.0, 1.0, 2.0
    middle /= length
    reach = float(np.sqrt(((points - middle[:, np.newaxis]) ** 2).sum(axis=0)).max())
    return *middle.tolist(), reach
