"""The extensions of a FITS file as its reader asks for them, and as cfitsio has them, whatever the file.

:mod:`twinlines.pipeline.lamost.ordinary` has those of ordinary files, and needs no cfitsio.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import fitsio
from numpy.typing import NDArray

from twinlines.pipeline.lamost import cards, frame
from twinlines.pipeline.lamost.exposures import LamostError, Reason
from twinlines.pipeline.lamost.layout import CARD

KEYWORDS = (
    *("OBSID", "LMJD", "PLANID", "SPID", "FIBERID", "RA", "DEC", "NEXP_B", "NEXP_R"),
    *("LMJM", "SNR", "EXPTIME", "DATE-BEG", "DATE-END", "ZTABLE", *sorted(frame.KEYWORDS)),
)
"""What is read of headers."""


class Extension(Protocol):
    """The primary header of a file, or an extension."""

    @property
    def name(self) -> str:
        """Its EXTNAME; empty if it has none."""

    @property
    def header(self) -> Mapping[str, Any]:
        """Those of :data:`KEYWORDS` that it has, and their values."""

    @property
    def kind(self) -> str:
        """What it is: ``BINARY_TBL``, or another of cfitsio's words."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns of a table."""

    def read(self, columns: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """Columns of a table by name: (row,) each, or (row, pixel) of vectors."""


class OfCfitsio:
    """An extension as cfitsio has it; what is wrong with it shows when it is asked for."""

    def __init__(self, hdu: Any, content: bytes) -> None:
        self._hdu, self._content = hdu, content

    @property
    def name(self) -> str:
        """Its EXTNAME; empty if it has none."""
        return str(self._hdu.get_extname())

    @property
    def header(self) -> Mapping[str, Any]:
        """The keywords that we know; of one that comes twice, the last counts.

        Cards are found in the bytes of the file, and only those that we know are parsed: for cfitsio to parse them all
        took a quarter of the time that reading a file takes.
        """
        offsets, content = self._hdu.get_offsets(), self._content
        values: dict[str, Any] = {}
        for start in range(offsets["header_start"], offsets["data_start"], CARD):
            name = content[start : start + 8].rstrip().upper()
            if name == b"END":
                break
            if name in _KEYWORDS and content[start + 8 : start + 10] == b"= ":
                values[name.decode()] = cards.value(content[start : start + CARD])
        return values

    @property
    def kind(self) -> str:
        """What it is."""
        return str(self._hdu.get_exttype())

    @property
    def columns(self) -> Sequence[str]:
        """Names of its columns."""
        return list(self._hdu.get_colnames())

    def read(self, columns: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """Columns by name."""
        # A whole table is read in one piece, and seven times faster than columns that are named, which go row by row.
        rows = self._hdu.read() if columns == self.columns else self._hdu.read(columns=columns)
        return {name: rows[name] for name in columns}


_KEYWORDS = {key.encode() for key in KEYWORDS}


@contextmanager
def by_cfitsio(path: Path, content: bytes, scratch: str) -> Iterator[list[Extension]]:
    """Lend the extensions of a file of which ``scratch`` is a copy.

    Raises
    ------
    LamostError
        If the file ends inside an extension, or its extensions cannot all be found.
    """
    _forget_errors()
    with fitsio.FITS(scratch) as hdus:
        _require_whole(path, content, hdus)
        yield [OfCfitsio(hdu, content) for hdu in hdus]


def _require_whole(path: Path, content: bytes, hdus: fitsio.FITS) -> None:
    offsets = hdus[-1].get_offsets()
    size, end = len(content), offsets["data_end"]
    # A file cut inside a header, or with a damaged one, looks as if it ended before that header.
    if end > size or b"XTENSION" in content[end:]:
        raise LamostError(
            Reason.TRUNCATED,
            f"{path}: ends or breaks off in extension {len(hdus)} (whole up to byte {min(end, size)}, "
            f"{size} bytes in all); fetch it again",
        )


def _forget_errors() -> None:
    """Empty cfitsio's stack of messages, which outlives the file that they are of.

    Each error that fitsio raises takes the whole stack for its text, and fails in another way if that is no UTF-8: a
    file with a damaged header would spoil the next one.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError):
        fitsio.FITS(os.devnull)
