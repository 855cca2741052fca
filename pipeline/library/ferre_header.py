"""Headers of FERRE grids: Fortran namelists from ``&SYNTH`` to ``/``, which f90nml reads.

With ``MULTI = n``, n further headers follow the first, one for each wavelength segment, in which a keyword that is not
repeated keeps its value. Here is what the text says and whether it can be a grid of spectra; what follows the headers
is :mod:`twinlines.pipeline.library.ferre`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import f90nml
import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.library.source import LibraryImportError

_LONGEST_HEADER = 1_000_000
"""Bytes of all headers together; a file without their end within so many is no grid."""

_QUOTED_OR_COMMENT = re.compile(r"'[^']*'|\"[^\"]*\"|![^\n]*")
_END = re.compile(r"/|[&$]end\b", re.IGNORECASE)
"""End of a namelist, where it stands neither in quotes nor in a comment."""

_UNPARSED = (ValueError, TypeError, KeyError, IndexError, AssertionError, StopIteration, UserWarning)
"""What f90nml raises, which has no error of its own, about text that is no namelist."""

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
    kind = _text(main, "TYPE", path).lower() if "TYPE" in main else "regular"
    if kind not in ("regular", "irregular"):
        raise LibraryImportError(f"{path}: header has TYPE = {kind!r}; known are 'regular' and 'irregular'")
    irregular = kind == "irregular"
    n_p = tuple(int(value) for value in _reals(main, "N_P", path, dimensions, or_one=irregular))
    nodes = math.prod(n_p)
    if irregular:
        nodes = _integer(main, "NTOT", path, default=nodes)
    if dimensions < 1 or min(*n_p, nodes) < 1:
        raise LibraryImportError(f"{path}: header has N_P = {_shown(main['N_P'])}, which makes no node")
    return Header(
        path=path,
        labels=tuple(_text(main, f"LABEL({number + 1})", path) for number in range(dimensions)),
        n_p=n_p,
        llimits=() if irregular else _reals(main, "LLIMITS", path, dimensions),
        steps=() if irregular else _reals(main, "STEPS", path, dimensions),
        nodes=nodes,
        irregular=irregular,
        segments=tuple(_segment(block, path) for block in described),
        invalid=_reals(main, "INVALID_CODE", path, default=0)[0],
        vacuum=bool(_integer(main, "VACUUM", path)) if "VACUUM" in main else None,
        lines=lines,
        offset=offset,
    )


def _block(file: BinaryIO, path: Path, inherited: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of the header that comes next, on top of those of the header before it; ``LABEL(1)`` is one of them."""
    text = _header_text(file, path)
    parser = f90nml.Parser()
    parser.global_start_index = 1
    try:
        group = parser.reads(text)["synth"]
    except _UNPARSED as error:
        raise LibraryImportError(
            f"{path}: its header is no Fortran namelist ({error or 'it breaks off'}); put text in quotes"
        ) from error
    keywords = dict(inherited)
    for key, value in group.items():
        if key == "label" and isinstance(value, list):
            keywords |= {f"LABEL({number})": label for number, label in enumerate(value, start=1) if label is not None}
        elif value is not None:
            keywords[key.upper()] = value
    return keywords


def _header_text(file: BinaryIO, path: Path) -> str:
    """The text of the header that comes next; the file's place is then at the line after it."""
    lines: list[str] = []
    pending = ""  # what is in quotes that are still open
    while True:
        raw = file.readline(_LONGEST_HEADER)
        line = raw.decode("latin-1")
        if not raw or file.tell() > _LONGEST_HEADER:
            what = "lacks a header" if not lines else "ends before its header does"
            cure = "; quotes are open that are not closed" if pending else ""
            raise LibraryImportError(f"{path} {what}: a grid begins with &SYNTH ... /, then MULTI more of them{cure}")
        if not lines:
            if line.strip() and not re.match(r"[&$]SYNTH\b", line.strip(), re.IGNORECASE):
                raise LibraryImportError(f"{path}: a FERRE header begins with &SYNTH; found {line.strip()[:60]!r}")
            if not line.strip():
                continue
        lines.append(line)
        plain = _QUOTED_OR_COMMENT.sub("", pending + (line if len(lines) > 1 else line.lstrip()[1:]))
        quotes = re.search("['\"]", plain)
        plain, pending = (plain[: quotes.start()], plain[quotes.start() :]) if quotes else (plain, "")
        if _END.search(plain):
            return "".join(lines)
        if "&" in plain:
            raise LibraryImportError(
                f"{path}: a header does not end before the next & begins; end it with /, and put text in quotes"
            )


def _check_block(block: Mapping[str, Any], main: Mapping[str, Any], path: Path) -> None:
    """Refuse a header that describes no spectra in absolute flux, or another grid than ``main``."""
    for key, why in _UNREADABLE.items():
        if any(_reals(block, key, path, default=0)):
            raise LibraryImportError(f"{path}: header has {key} = {_shown(block[key])}: {why}")
    for key in ("N_OF_DIM", "N_P", "LLIMITS", "STEPS"):
        if key in block and _reals(block, key, path) != _reals(main, key, path):
            raise LibraryImportError(
                f"{path}: its headers disagree on {key}: {_shown(block[key])} and {_shown(main[key])}"
            )


def _segment(block: Mapping[str, Any], path: Path) -> Segment:
    logw = _integer(block, "LOGW", path)
    if logw not in _SCALES:
        raise LibraryImportError(
            f"{path}: header has LOGW = {logw}; known are 0 (linear), 1 (log10) and 2 (natural logarithm)"
        )
    start, step = _reals(block, "WAVE", path, 2)
    resolution = _reals(block, "RESOLUTION", path, default=0)[0]
    return Segment(_integer(block, "NPIX", path), start, step, logw, resolution or None)


def _value(block: Mapping[str, Any], key: str, path: Path) -> Any:
    if key not in block:
        raise LibraryImportError(f"{path}: its header lacks {key}; add it as FERRE's guide describes it")
    return block[key]


def _shown(value: Any) -> str:
    """A keyword's value as the header has it, or nearly."""
    values = value if isinstance(value, list) else [value]
    return " ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in values)


def _text(block: Mapping[str, Any], key: str, path: Path) -> str:
    value = _value(block, key, path)
    if not isinstance(value, str):
        raise LibraryImportError(f"{path}: header has {key} = {_shown(value)}, which is no text; put it in quotes")
    return value.strip()


def _reals(
    block: Mapping[str, Any],
    key: str,
    path: Path,
    number: int | None = None,
    *,
    default: float | None = None,
    or_one: bool = False,
) -> tuple[float, ...]:
    """Values of a keyword, of which there must be ``number`` (or one, if ``or_one``)."""
    value = block.get(key, default) if default is not None else _value(block, key, path)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in values):
        raise LibraryImportError(f"{path}: header has {key} = {_shown(value)}, which is no list of numbers")
    if number is not None and len(values) != number and not (or_one and len(values) == 1):
        raise LibraryImportError(f"{path}: header has {key} = {_shown(value)}, expected {number} values")
    return tuple(map(float, values))


def _integer(block: Mapping[str, Any], key: str, path: Path, *, default: int | None = None) -> int:
    values = _reals(block, key, path, 1, default=default)
    if values[0] < 0 or values[0] != int(values[0]):
        raise LibraryImportError(f"{path}: header has {key} = {values[0]:g}, expected a whole number")
    return int(values[0])
