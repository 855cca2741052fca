"""How chunks are packed, each with a checksum, so that a flipped bit is an error and never a value.

The last of a chunk's codecs is CRC-32C over the packed bytes, which misses no change of up to 32 bits in a row. It is
compared before anything is unpacked, by whoever reads: Zarr itself, and :mod:`twinlines.pipeline.storage.columns`. So
do index blocks of shards, by Zarr's own choice. Chunks of stores that were written without it are read as they are.

A zipped store has a checksum of each entry besides, but none of their names, and an entry of another name is a chunk
that is not there, which means missing values: the archive's comment is a checksum of all names.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

CHECKSUM = "crc32c"
"""Name of the codec that compares the checksum."""

LABELS = (Crc32cCodec(),)
"""How the labels of dimensions are packed: a few bytes."""

DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What reading something damaged can raise."""

_BYTES = 4
_CURE = (
    "restore it from a copy, or make the store again; of a survey's releases, results and catalogs "
    "'twinlines status --verify' says what is damaged, and how to mend it"
)


class StoreError(RuntimeError):
    """A store cannot be created, read, written or opened as asked."""


def compressed(bitshuffle: bool) -> tuple[BloscCodec, Crc32cCodec]:
    """How the values of a variable are packed, bits or bytes sorted first."""
    shuffle = BloscShuffle.bitshuffle if bitshuffle else BloscShuffle.shuffle
    return BloscCodec(cname="lz4", shuffle=shuffle), Crc32cCodec()


def checked(packed: bytes) -> NDArray[np.uint8]:
    """The content of a packed chunk without its checksum.

    Raises
    ------
    ValueError
        If they do not belong together.
    """
    content = np.frombuffer(packed, np.uint8)
    inner, stored = content[:-_BYTES], content[-_BYTES:]
    if google_crc32c.value(inner) != int.from_bytes(stored.tobytes(), "little") or len(content) < _BYTES:
        raise ValueError("its checksum differs")
    return inner


def names_checksum(names: Iterable[str]) -> bytes:
    """The comment of an archive of entries of these names."""
    return f"CRC-32 of all names: {zlib.crc32(chr(10).join(sorted(names)).encode()):08x}".encode()


def check_names(archive: zipfile.ZipFile) -> None:
    """Compare the names of an archive's entries with its comment; one that has none passes.

    Raises
    ------
    StoreError
        If they do not belong together.
    """
    if archive.comment and archive.comment != names_checksum(archive.namelist()):
        raise damaged(archive.filename, "the checksum of its entries' names differs")


def damaged(file: object, error: object, cure: str = _CURE) -> StoreError:
    """What to raise where a file is not what was written."""
    said = "its checksum differs" if "checksum do not match" in str(error) else error
    return StoreError(f"{file} is damaged ({said}); {cure}")


def read(array: zarr.Array[Any], where: Path, key: tuple[Any, ...]) -> NDArray[Any]:
    """Values of a Zarr array; ``key`` has a slice, an integer or an array of integers for each dimension.

    Raises
    ------
    StoreError
        If a chunk that they stand in is damaged, naming its file.
    """
    try:
        plain = all(isinstance(axis, slice | int | np.integer) for axis in key)
        return np.asarray(array[key] if plain else array.oindex[key])
    except OSError:  # of the system, which says nothing of the file
        raise
    except DAMAGE as error:
        raise damaged(_file(array, where, key[0]), error) from error


def _file(array: zarr.Array[Any], where: Path, rows: Any) -> Path:
    """The first file of an array that cannot be read, of those that hold some rows; its folder if all can."""
    step = (array.shards or array.chunks)[0]
    for number in np.unique(np.arange(array.shape[0])[rows] // step).tolist():
        try:
            array[number * step : (number + 1) * step]
        except DAMAGE:
            return where.joinpath("c", str(number), *["0"] * (array.ndim - 1))
    return where


class Lazy(BackendArray):
    """A Zarr array that xarray reads when it is asked for values, and that names what is damaged."""

    def __init__(self, array: zarr.Array[Any], where: Path) -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self._array, self._where = array, where

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        return read(self._array, self._where, key).astype(self.dtype, copy=False)
