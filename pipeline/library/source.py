"""What every source of synthetic spectra offers to the import: an index of labels, then one spectrum at a time.

A source says what stands in its files; it knows neither our grids nor how a library is packed. The index comes first
and holds no flux, so that whatever is wrong with a grid as a whole (rows that are not there, two nodes with the same
labels, a label that must be chosen) is said before hours of reading, and memory does not grow with the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.library.packing import AXES
from twinlines.pipeline.progress import Progress

_ALIASES = {
    "teff": "teff t_eff effective_temperature",
    "logg": "logg log_g log(g) gravity",
    "feh": "feh fe_h [fe/h] metals [m/h] m_h mh metallicity",
    "alpha": "alpha [alpha/fe] [a/fe] afe a_fe [a/m] [alpha/m] omgsiscati alpham am",
    "vmic": "vmic vmicro vturb micro microturbulence vdop xi",
    "log10vmic": "log10vdop log10vmic log10vmicro log10vt",
}
_KNOWN = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}

DECIMALS = 5
"""Labels are rounded to so many decimals: steps and sums of decimal fractions are no exact binary numbers."""


class LibraryImportError(ValueError):
    """A file of synthetic spectra cannot become a library; the message says why, and what to do."""


@dataclass(frozen=True)
class Entry:
    """One node as the index knows it."""

    place: str
    """Where it stands, for messages: a file, or a line of a file and the number of the node."""
    labels: Mapping[str, float]
    """Labels by name (see :func:`label_name`): ``teff`` in K, the others in dex, km/s or whatever the file uses."""
    key: int
    """What the source needs to find it again."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One spectrum as it stands in its file."""

    segments: tuple[NDArray[np.float64], ...]
    """Wavelengths in Angstrom, ascending within each segment; in air or in vacuum as the user says."""
    flux: NDArray[np.float64]
    """Flux of all segments, one after the other."""
    resolution: float | None
    """Resolving power lambda / FWHM, if the file states it."""


class SpectrumSource(Protocol):
    """A grid of synthetic spectra in somebody's format."""

    @property
    def notes(self) -> Mapping[str, Any]:
        """What goes into the library's provenance: file names, format, what the headers say."""
        ...

    def index(self, progress: Progress) -> Sequence[Entry]:
        """List all nodes.

        Raises
        ------
        LibraryImportError
            If the files are not what their format or their header says.
        """
        ...

    def read(self, entry: Entry) -> Spectrum | None:
        """Read one spectrum; None if the file marks the node as missing.

        Raises
        ------
        LibraryImportError
            If it cannot be read.
        """
        ...


def label_name(name: str) -> str:
    """Our name of a label that a file calls ``name``.

    One of :data:`~twinlines.pipeline.library.packing.AXES`, ``vmic``, ``log10vmic``, or the name in capital letters.

    >>> label_name("METALS"), label_name("O Mg Si S Ca Ti"), label_name("[C/Fe]")
    ('feh', 'alpha', '[C/FE]')
    """
    return _KNOWN.get("".join(name.split()).lower(), name.strip().upper())


def selected(entries: Sequence[Entry], select: Mapping[str, float]) -> tuple[list[Entry], dict[str, float]]:
    """Keep the entries with the chosen values, so that only the four labels of a library still vary.

    Parameters
    ----------
    entries
        All nodes of a source.
    select
        Chosen value by label, as :func:`label_name` spells it.

    Returns
    -------
    chosen, fixed
        The entries with the chosen values, and the value of each further label.

    Raises
    ------
    LibraryImportError
        If a needed label is missing, a further label has several values and none was chosen, or the chosen value
        does not occur; the message names the values.
    """
    names = list(entries[0].labels)
    for needed in AXES[:3]:
        if needed not in names:
            raise LibraryImportError(
                f"{entries[0].place}: no label is the library's {needed!r} (labels: {', '.join(names)}); "
                f"it may be called {', '.join(_ALIASES[needed].upper().split())}"
            )
    if unknown := [name for name in select if name not in names]:
        raise LibraryImportError(f"no label is called {unknown[0]!r}; the labels are {', '.join(names)}")
    for name, value in select.items():
        values = _values(entries, name)
        entries = [entry for entry in entries if abs(entry.labels[name] - value) <= 10.0**-DECIMALS]
        if not entries:
            raise LibraryImportError(f"no node has {name} = {value:g}; the values are {_listed(values)}")
    fixed = {}
    for name in names:
        if name in AXES:
            continue
        values = _values(entries, name)
        if len(values) > 1:
            raise LibraryImportError(
                f"label {name} has {len(values)} values ({_listed(values)}), but a library has only Teff, logg, [Fe/H] "
                f"and [alpha/Fe]; choose one with --select '{name}={values[0]:g}'"
            )
        fixed[name] = values[0]
    return list(entries), fixed


def selection(arguments: Sequence[str]) -> dict[str, float]:
    """Chosen values by label, from arguments ``NAME=VALUE``.

    Raises
    ------
    LibraryImportError
        If one is not of that form.
    """
    chosen = {}
    for argument in arguments:
        name, equals, value = argument.rpartition("=")
        try:
            chosen[label_name(name)] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise LibraryImportError(f"--select {argument}: expected NAME=VALUE, such as VMIC=2")
    return chosen


def _values(entries: Sequence[Entry], name: str) -> list[float]:
    return sorted({round(entry.labels[name], DECIMALS) for entry in entries})


def _listed(values: Sequence[float]) -> str:
    shown = [f"{value:g}" for value in values]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:6], "...", *shown[-5:]])
