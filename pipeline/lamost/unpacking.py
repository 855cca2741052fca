"""The bytes of a FITS file, however it is compressed: read whole, unpacked and checked.

What the system does not let us read says nothing about the file, and is another error than what is wrong with the file.
Knows bytes; no extension and no pixel.
"""

from __future__ import annotations

import bz2
import errno
import lzma
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from isal import isal_zlib

from twinlines.pipeline.lamost.exposures import LamostError, OutOfReachError, Reason

MAXIMUM_BYTES = 1 << 28
"""Largest file, after decompression, that can be an MRS file: 256 MiB, some two thousand exposures."""

_MEMORY = "/dev/shm"
_LAYERS = 3  # of compression within each other; downloads and archives make two
_OF_THE_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}  # a link that leads nowhere
_OTHERS = {
    b"\x1f\x9d": "compress (.Z)",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_ISAL_ERROR: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment] # isal's stub says it is an instance


class _Decompressor(Protocol):
    """What isal, bz2 and lzma offer alike."""

    @property
    def eof(self) -> bool:
        """Whether the stream's end was read."""

    @property
    def unused_data(self) -> bytes:
        """What follows the stream."""


_FORMATS: dict[bytes, str] = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}


def content_of(path: Path) -> bytes:
    """Return a file's bytes, unpacked (gzip, bzip2, xz, also within each other) and checked.

    Raises
    ------
    LamostError
        If the file is none, is empty, too long, damaged, or not FITS.
    OutOfReachError
        If the system does not let us read it, which says nothing about the file.
    """
    content = _raw(path)
    size = len(content)
    for _ in range(_LAYERS):
        layer = next((name for magic, name in _FORMATS.items() if content.startswith(magic)), None)
        if layer is None:
            break
        try:
            content = inflated(content, layer)
        except EOFError as error:
            raise LamostError(
                Reason.TRUNCATED, f"{path}: the {layer} file of {size} bytes ends early; fetch it again"
            ) from error
        except (OSError, _ISAL_ERROR, lzma.LZMAError) as error:
            raise LamostError(
                Reason.UNREADABLE, f"{path}: the {layer} file is damaged ({error}); fetch it again"
            ) from error
    _check(path, content)
    return content


@contextmanager
def scratch_copy(content: bytes) -> Iterator[str]:
    """Lend the name of a file with this content, in memory if there is room.

    cfitsio reads a truncated gzip without complaint as far as it goes, and takes brackets in a name for its own syntax:
    it gets neither compressed files nor users' names.

    Raises
    ------
    OSError
        If there is no room for it, which says nothing about the file that it is a copy of.
    """
    with _scratch(content) as scratch:
        yield scratch.name


def _scratch(content: bytes) -> Any:
    folders = [*([_MEMORY] if Path(_MEMORY).is_dir() else []), tempfile.gettempdir()]
    for folder in folders:
        try:
            scratch = tempfile.NamedTemporaryFile(suffix=".fits", dir=folder)  # noqa: SIM115 - the caller closes it
            try:
                scratch.write(content)
                scratch.flush()
            except OSError:
                scratch.close()
                raise
        except OSError as error:
            if folder == folders[-1]:
                words = f"{error.strerror}: no copy of {len(content)} bytes can be made in it"
                raise OSError(error.errno, words, folder) from error
        else:
            return scratch
    raise AssertionError("there is a folder for what is temporary")


def _raw(path: Path) -> bytes:
    try:
        # A pipe would be waited for without end.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LamostError(Reason.UNREADABLE, f"{path}: it is not an ordinary file; leave it out")
        with path.open("rb", buffering=0) as file:
            # A limit is memory that is asked for, which takes longer than to read the file.
            return file.readall() if status.st_size <= MAXIMUM_BYTES else file.read(MAXIMUM_BYTES + 1) or b""
    except OSError as error:
        if error.errno in _OF_THE_FILE:
            raise LamostError(Reason.UNREADABLE, f"{path}: cannot be read ({error}); fetch it again") from error
        raise OutOfReachError(error.errno or errno.EIO, error.strerror or repr(error), str(path)) from error


def _check(path: Path, content: bytes) -> None:
    if not content:
        raise LamostError(Reason.EMPTY, f"{path}: there is nothing in the file (0 bytes); fetch it again")
    if len(content) > MAXIMUM_BYTES:
        raise LamostError(
            Reason.WRONG_FORMAT,
            f"{path}: more than {MAXIMUM_BYTES} bytes; an MRS file has about a million; leave the file out",
        )
    if content.startswith(b"SIMPLE  ="):
        return
    for magic, name in {**_OTHERS, **_FORMATS}.items():
        if content.startswith(magic):
            raise LamostError(
                Reason.WRONG_FORMAT, f"{path}: is packed by {name}, in a way that is not read here; unpack it"
            )
    raise LamostError(
        Reason.WRONG_FORMAT,
        f"{path}: begins with {content[:9]!r}, a FITS file with 'SIMPLE  ='; fetch it again, or leave it out",
    )


def inflated(content: bytes, layer: str) -> bytes:
    """Decompress streams that follow each other, up to a byte more than a file may have.

    Gzip by ISA-L, which takes two thirds of the time of zlib.

    Parameters
    ----------
    content
        One or more streams, with zeros behind them at most.
    layer
        "gzip", "bzip2" or "xz".

    Raises
    ------
    EOFError
        If a stream breaks off.
    OSError
        If one is damaged; isal and lzma have errors of their own for that.
    """
    parts, room = [], MAXIMUM_BYTES + 1
    magic = next(magic for magic, name in _FORMATS.items() if name == layer)
    while content and room:
        if not content.startswith(magic):
            raise OSError(f"{len(content)} bytes follow that are no {layer}")  # ISA-L would wait for more of them
        decompress, stream = _start(layer)
        parts.append(decompress(content, room))
        room -= len(parts[-1])
        if room and not stream.eof:
            raise EOFError
        content = stream.unused_data.lstrip(b"\0")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _start(layer: str) -> tuple[Callable[[bytes, int], bytes], _Decompressor]:
    if layer == "gzip":
        gzip = isal_zlib.decompressobj(wbits=16 + isal_zlib.MAX_WBITS)
        return gzip.decompress, gzip
    other = bz2.BZ2Decompressor() if layer == "bzip2" else lzma.LZMADecompressor(lzma.FORMAT_XZ)
    return other.decompress, other
