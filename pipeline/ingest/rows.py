"""Rows of a release as records of one size: what a scan keeps of what it has read, so that no file is read twice.

Records are appended to a scratch file beside the scan's marker, compressed to 60 %. Nothing rests on them: each bears a
checksum, and where one is missing or damaged, its FITS file is read again. Knows files as they are read; no store, so
that a process that only reads starts quickly.
"""

from __future__ import annotations

import os
import struct
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
from isal import isal_zlib
from numcodecs import Blosc
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.lamost.content_hash import contents
from twinlines.pipeline.lamost.exposures import MrsFile
from twinlines.pipeline.schema import EXPOSURES

_ABSENT = {"bjdmid", "source_file"}  # computed and known where the shard is written
_OWN = [("planid", "S96"), ("mid_utc", "<f8")]
_NO_ARM = {name: EXPOSURES.variables[name].missing for name in ("snr", "exptime", "flux", "ivar", "loglam", "mask")}
_CODEC = Blosc("lz4", clevel=3, shuffle=Blosc.SHUFFLE, typesize=4)
_HEAD = struct.Struct("<2I")  # bytes of a packed record, and their checksum


def _field(name: str) -> tuple[str, str, tuple[int, ...]]:
    variable = EXPOSURES.variables[name]
    return name, np.dtype(variable.dtype).newbyteorder("<").str, EXPOSURES.shape(name, 1)[1:]


ROW = np.dtype([*(_field(name) for name in EXPOSURES.variables if name not in _ABSENT | {"planid"}), *_OWN])
"""One exposure: fields, dtypes and shapes are those of :data:`twinlines.pipeline.schema.EXPOSURES`, but for the plan's
text of fixed width; with the middle of it, UTC."""


def records(file: MrsFile) -> NDArray[np.void]:
    """The exposures of a file, (exposure,) of :data:`ROW`; an absent arm is NaN, and its mask 0."""
    rows = np.zeros(len(file.exposures), ROW)
    for name in ("obsid", "lmjd", "spid", "fiberid", "ra", "dec"):
        rows[name] = getattr(file, name)
    rows["planid"] = file.planid.encode()
    for number, (exposure, content, middle) in enumerate(contents(file)):
        rows["lmjm"][number], rows["content_hash"][number], rows["mid_utc"][number] = exposure.lmjm, content, middle
        arms = exposure.arms
        for place, letter in enumerate(ARM_NAMES):
            for name, missing in _NO_ARM.items():
                rows[name][number, place] = getattr(arms[letter], name) if letter in arms else missing
    return rows


def append(path: str, rows: NDArray[np.void]) -> list[int]:
    """Append records to a file; returns the byte at which each begins, or -1 where they cannot be kept."""
    nowhere = [-1] * len(rows)
    if any(len(name) == ROW["planid"].itemsize for name in rows["planid"].tolist()):
        return nowhere  # it may have been cut
    content = rows.view(np.uint8).reshape(len(rows), ROW.itemsize)
    packed = [_CODEC.encode(np.ascontiguousarray(row)) for row in content]
    heads = [_HEAD.pack(len(piece), isal_zlib.crc32(piece)) for piece in packed]
    data = b"".join(chain.from_iterable(zip(heads, packed, strict=True)))
    try:
        # In one piece at the end, wherever that is by then: also if a task that was given up for dead writes still.
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            whole = os.write(handle, data) == len(data)
            begin = os.lseek(handle, 0, os.SEEK_CUR) - len(data)
        finally:
            os.close(handle)
    except OSError:
        return nowhere
    return list(accumulate((_HEAD.size + len(piece) for piece in packed[:-1]), initial=begin)) if whole else nowhere


def read_back(path: Path, offsets: tuple[int, ...], expected: tuple[tuple[int, int], ...]) -> NDArray[np.void] | None:
    """Read records, (row,) of :data:`ROW`; None unless all are there, whole, and what is expected.

    Parameters
    ----------
    path
        File of the records.
    offsets
        Where each begins, bytes; -1 for one that was not kept.
    expected
        (lmjm, content hash) of each.
    """
    if min(offsets) < 0:
        return None
    rows = np.empty(len(offsets), ROW)
    content = rows.view(np.uint8).reshape(len(offsets), ROW.itemsize)
    try:
        with path.open("rb") as file:
            for place, offset in zip(content, offsets, strict=True):
                file.seek(offset)
                head = file.read(_HEAD.size)
                size, checksum = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
                piece = file.read(min(size, 2 * ROW.itemsize))
                # Nothing is unpacked that is not what was packed.
                if not piece or len(piece) < size or isal_zlib.crc32(piece) != checksum:
                    return None
                _CODEC.decode(piece, out=place)
    except OSError:
        return None
    there = tuple(zip(rows["lmjm"].tolist(), rows["content_hash"].tolist(), strict=True))
    return rows if there == expected else None
