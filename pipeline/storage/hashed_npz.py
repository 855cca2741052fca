"""Packed data files: named arrays with a JSON header and a content hash, in one compressed ``.npz`` without pickles.

The spectral library and the track table ship in this form. The hash covers names, dtypes, shapes and values, so it
stays the same when a file is compressed again, and it goes into the provenance of whatever is computed with the data.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.storage import atomic

_HEADER = "header"
DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error),
    RuntimeError,  # zipfile's, where a flipped bit says that a part is encrypted, or packed by a method it lacks
)
"""What reading a damaged ``.npz`` file, or one of another layout, can raise."""


class PackedError(ValueError):
    """A packed data file is missing, damaged, or of another format or version."""


@dataclass(frozen=True)
class Packed:
    """What a packed file holds."""

    arrays: Mapping[str, NDArray[Any]]
    """The arrays by name."""
    attrs: Mapping[str, Any]
    """What its writer noted about it: origin, measured errors."""
    digest: str
    """Content hash of the arrays: 32 hexadecimal digits of BLAKE2b."""


def content_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Hash arrays by content: 32 hexadecimal digits of BLAKE2b over names, dtypes, shapes and little-endian values."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        state.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        state.update(values.tobytes())
    return state.hexdigest()


def write(
    path: str | Path, kind: str, version: int, arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]
) -> str:
    """Write a packed file, whole or not at all, and return its digest.

    Parameters
    ----------
    path
        File to write; one that exists is replaced.
    kind, version
        Format's name and version; :func:`read` asks for both.
    arrays
        Arrays of numbers, by name.
    attrs
        Notes for the header, JSON-serialisable.
    """
    digest = content_digest(arrays)
    header = json.dumps({"kind": kind, "version": version, "digest": digest, "attrs": dict(attrs)}, sort_keys=True)
    named: dict[str, Any] = {_HEADER: np.frombuffer(header.encode(), dtype=np.uint8), **arrays}
    file = io.BytesIO()
    np.savez_compressed(file, **named)
    atomic.write_bytes(Path(path), file.getvalue())
    return digest


def read(path: str | Path, kind: str, version: int) -> Packed:
    """Read a packed file and check its kind, version and content hash.

    Raises
    ------
    PackedError
        If the file is missing, damaged, or of another kind or version.
    """
    path = Path(path)
    if not path.is_file():
        raise PackedError(f"{path} does not exist or is not a file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop(_HEADER).tobytes())
        stored_as, stated = (header["kind"], header["version"]), header["digest"]
    except DAMAGE as error:
        raise PackedError(f"{path} is not a packed {kind}, or is damaged ({error}); make or copy it again") from error
    if stored_as != (kind, version):
        raise PackedError(
            f"{path} holds {stored_as[0]!r} version {stored_as[1]}; this code reads {kind!r} version {version}; "
            f"pack it again"
        )
    digest = content_digest(arrays)
    if digest != stated:
        raise PackedError(f"{path} is damaged: its content hashes to {digest}, its header says {stated}")
    return Packed(arrays, header["attrs"], digest)
