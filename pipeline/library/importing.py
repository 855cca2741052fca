"""Makes a library of a grid of synthetic spectra: index, choice of nodes, resampling, checks, packing.

Two passes. The first lists the nodes and refuses what is wrong with the grid as a whole; the second takes one spectrum
at a time to the library's wavelengths and appends ln flux to a scratch file beside the output, which the components are
then found in. Nodes that the source marks as missing stay missing: the library says HOLE there, and nothing is
interpolated over them. It knows neither FITS nor FERRE; those are sources.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARMS, air_to_vacuum
from twinlines.pipeline.library.components import MOST_COMPONENTS, TOLERABLE, compress
from twinlines.pipeline.library.packing import AXES, COMPONENTS, place_nodes, write
from twinlines.pipeline.library.resample import RESOLUTION, TOLERANCE, ResampleError, Resampler
from twinlines.pipeline.library.source import Entry, LibraryImportError, Spectrum, SpectrumSource, selected
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.storage import atomic

Medium = Literal["air", "vacuum"]
"""What wavelengths are measured in."""

RISING = 0.98
"""Least fraction of neighbours in Teff between which the mean flux rises, at equal other labels."""

STEEPEST_NORMALISED = 0.5
"""d ln(flux) / d ln(Teff) below which fluxes are no absolute ones. Planck's law at 5600 A has 5 at 5000 K and 2.6 at
10000 K, and never less than 1; the mean of continuum-normalised spectra rises, too, as lines fade, but by less."""

_PIXELS = sum(arm.library_pixels for arm in ARMS.values())
_MOST_CELLS = 20_000_000
_AIR_FROM = 2000.0  # Angstrom


@dataclass(frozen=True)
class LibraryImportReport:
    """What became of a grid."""

    library: str
    """The packed library."""
    digest: str
    """Its content hash."""
    nodes: int
    """Nodes in it."""
    combinations: int
    """Combinations of its axes' values: nodes and holes together."""
    axes: dict[str, list[float]]
    """Values along each axis; K and dex."""
    notes: dict[str, Any]
    """The header's notes: source, wavelengths, resolution, chosen labels, missing nodes, errors, warnings."""


@dataclass(frozen=True)
class Choices:
    """What the user says about a grid, because its files do not, or not reliably."""

    wavelengths: Medium
    """What the source's wavelengths are measured in."""
    resolution: float | None = None
    """Resolving power lambda / FWHM, if the source does not state it."""
    select: Mapping[str, float] = field(default_factory=dict)
    """Chosen value of each label, by our name, that has several and is none of a library's four."""
    components: int = COMPONENTS
    """Principal components to keep, or more if the error asks for it."""

    def __post_init__(self) -> None:
        if self.wavelengths not in get_args(Medium):
            raise LibraryImportError(f"wavelengths is {self.wavelengths!r}; give one of {', '.join(get_args(Medium))}")
        if self.resolution is not None and not 0.0 < self.resolution < np.inf:
            raise LibraryImportError(f"resolution is {self.resolution:g}; give lambda / FWHM, such as 20000")


def import_library(
    source: SpectrumSource, out: str | Path, choices: Choices, *, overwrite: bool = False, progress: Progress = silent
) -> LibraryImportReport:
    """Import a grid and write it as a packed library.

    Raises
    ------
    LibraryImportError
        If the grid cannot become a library, or ``out`` exists and is not to be overwritten; nothing is written then.
    OSError
        If the disk is full; ``out`` is then as it was.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise LibraryImportError(f"{out} exists; name another file, or replace it with --overwrite")
    if not out.parent.is_dir():
        raise LibraryImportError(f"{out.parent} is no folder; make it first")
    if not 1 <= choices.components <= MOST_COMPONENTS:
        raise LibraryImportError(f"{choices.components} components asked for; 1 to {MOST_COMPONENTS} can be kept")
    entries, fixed = selected(source.index(progress), choices.select)
    labels = _labels(entries)
    _check_space(out.parent, len(entries))
    with _scratch(out) as (path, file):
        reader = _Reader(source, choices)
        gone = _read_all(entries, reader, file, progress)
        spectra = int((~gone).sum())
        if not spectra:
            raise LibraryImportError(
                f"all {len(entries)} nodes of {source.notes['source']} are missing: nothing to import"
            )
        rows: NDArray[np.float32] = np.memmap(path, dtype=np.float32, mode="r", shape=(spectra, _PIXELS))
        slope = _check_flux(labels[~gone], rows, source)
        notes = _notes(source, choices, reader, fixed) | {
            "teff_slope": slope,
            "missing_nodes": int(gone.sum()),
            "first_missing": labels[gone][:8].tolist(),
        }
        return _pack(out, labels[~gone], rows, choices.components, notes, progress)


def _read_all(entries: Sequence[Entry], reader: _Reader, file: IO[bytes], progress: Progress) -> NDArray[np.bool_]:
    """Append the spectra that exist to the scratch file; return which are missing, (node,)."""
    gone = np.zeros(len(entries), dtype=bool)
    for number, entry in enumerate(entries):
        lnflux = reader.lnflux(entry)
        gone[number] = lnflux is None
        if lnflux is not None:
            with atomic.naming(Path(file.name)):
                file.write(lnflux.tobytes())
        progress("reading spectra", number + 1, len(entries))
    with atomic.naming(Path(file.name)):
        file.flush()
    return gone


def _pack(
    out: Path,
    labels: NDArray[np.float64],
    rows: NDArray[np.float32],
    components: int,
    notes: dict[str, Any],
    progress: Progress,
) -> LibraryImportReport:
    compressed = compress(rows, components, progress)
    axes, index = place_nodes(labels)
    count, error = compressed.reduced.scale.size, compressed.relative_error
    if count > components:
        notes["warnings"].append(f"{count} components kept, since {components} left more than {TOLERABLE:g}")
    if error["percentile_99.9"] > TOLERABLE:
        notes["warnings"].append(
            f"{count} components leave a relative error of {error['percentile_99.9']:g} at the 99.9th percentile, more "
            f"than {TOLERABLE:g}: the spectra differ in more ways than a library can keep"
        )
    notes |= {"nodes": labels.shape[0], "components": count, "relative_error": error}
    digest = write(out, axes, index, compressed.mean, compressed.reduced, notes)
    return LibraryImportReport(
        library=str(out),
        digest=digest,
        nodes=labels.shape[0],
        combinations=index.size,
        axes={name: axis.tolist() for name, axis in zip(AXES, axes, strict=True)},
        notes=notes,
    )


class _Reader:
    """Takes entries to ln flux on the library's pixels; makes a resampler when the wavelengths change."""

    def __init__(self, source: SpectrumSource, choices: Choices) -> None:
        self._source, self._choices = source, choices
        self.resolution: float | None = None
        self._first = ""
        self._segments: tuple[NDArray[np.float64], ...] = ()
        self._resampler: Resampler | None = None

    def lnflux(self, entry: Entry) -> NDArray[np.float32] | None:
        """Ln flux, shape (pixel,), blue then red; None if the node is missing."""
        spectrum = self._source.read(entry)
        if spectrum is None:
            return None
        try:
            resampler = self._prepared(entry, spectrum)
        except ResampleError as error:
            raise LibraryImportError(f"{entry.place}: {error}") from error
        self._check(entry, spectrum, resampler)
        flux = resampler(spectrum.flux)
        if flux.min() <= 0.0:
            raise LibraryImportError(f"{entry.place}: flux is not positive once smoothed; {_where(entry)}")
        return np.log(flux).astype(np.float32)

    def _prepared(self, entry: Entry, spectrum: Spectrum) -> Resampler:
        resolution = self._resolving(entry, spectrum)
        same = len(self._segments) == len(spectrum.segments) and all(
            earlier is segment or np.array_equal(earlier, segment)
            for earlier, segment in zip(self._segments, spectrum.segments, strict=True)
        )
        if self._resampler is None or not same:
            in_air = self._choices.wavelengths == "air"
            vacuum = [_to_vacuum(segment) if in_air else segment for segment in spectrum.segments]
            self._resampler = Resampler(vacuum, resolution)
            self._segments = spectrum.segments
        return self._resampler

    def _resolving(self, entry: Entry, spectrum: Spectrum) -> float:
        """The one resolving power of all spectra."""
        stated, said = spectrum.resolution, self._choices.resolution
        resolution = stated if stated is not None else said
        if resolution is None:
            raise LibraryImportError(f"{entry.place}: does not state its resolving power; say it with --resolution R")
        if said is not None and abs(resolution / said - 1.0) > TOLERANCE:
            raise LibraryImportError(
                f"{entry.place}: states R = {resolution:g}, and --resolution says {said:g}; leave the option out, or "
                f"correct the file"
            )
        if self.resolution is None:
            self.resolution, self._first = resolution, entry.place
        if abs(resolution / self.resolution - 1.0) > TOLERANCE:
            raise LibraryImportError(
                f"mixed resolutions: {self._first} has R = {self.resolution:g}, {entry.place} has R = {resolution:g}; "
                f"a library has one, so bring the spectra to one first"
            )
        return self.resolution

    def _check(self, entry: Entry, spectrum: Spectrum, resampler: Resampler) -> None:
        if spectrum.flux.size != resampler.pixels:
            raise LibraryImportError(
                f"{entry.place}: {spectrum.flux.size} fluxes for {resampler.pixels} wavelengths; one for each is needed"
            )
        used = spectrum.flux[resampler.used]
        bad = np.flatnonzero(~(np.isfinite(used) & (used > 0.0)))
        if bad.size:
            wavelength = np.concatenate(self._segments)[resampler.used[bad[0]]]
            value = used[bad[0]]
            kind = f"{value:g}" if np.isfinite(value) else ("NaN" if np.isnan(value) else "infinite")
            raise LibraryImportError(
                f"{entry.place}: flux is {kind} at {wavelength:.3f} A, the first of {bad.size} bad pixels; ln flux is "
                f"interpolated, so it must be positive; {_where(entry)}"
            )


def _to_vacuum(wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vacuum wavelengths of a scale in air; below 2000 A, such scales are in vacuum by convention."""
    result = wavelength.copy()
    in_air = wavelength >= _AIR_FROM
    result[in_air] = air_to_vacuum(wavelength[in_air])
    return result


def _where(entry: Entry) -> str:
    labels = ", ".join(f"{name} {value:g}" for name, value in entry.labels.items())
    return f"compute the node ({labels}) again, or mark it as missing by zeros throughout"


def _labels(entries: Sequence[Entry]) -> NDArray[np.float64]:
    """Labels of the nodes, (node, 4), after checking that they make a grid; [alpha/Fe] is 0 if no label says it."""
    labels = np.array([[entry.labels.get(name, 0.0) for name in AXES] for entry in entries])
    if (bad := np.flatnonzero(labels[:, 0] <= 0.0)).size:
        raise LibraryImportError(f"{entries[bad[0]].place}: Teff is {labels[bad[0], 0]:g} K; it must be positive")
    cells = int(np.prod([np.unique(column).size for column in labels.T], dtype=float))
    if cells > _MOST_CELLS:
        raise LibraryImportError(
            f"{len(entries)} nodes have labels on no grid: their values make {cells} combinations; a library "
            f"interpolates between nodes that share values"
        )
    _, first, inverse = np.unique(labels, axis=0, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse.ravel()] != np.arange(len(entries)))
    if again.size:
        earlier = entries[first[inverse.ravel()[again[0]]]]
        raise LibraryImportError(
            f"{entries[again[0]].place} has the same labels as {earlier.place}; keep one of them, or choose by another "
            f"label with --select"
        )
    return labels


def _check_flux(labels: NDArray[np.float64], rows: NDArray[np.float32], source: SpectrumSource) -> float | None:
    """Hold the mean ln flux against Teff; return the median d ln(flux) / d ln(Teff), None if Teff has one value.

    Surface flux rises with Teff whatever the other labels are. If it does not, the nodes stand in another order than
    assumed, or the fluxes are continuum-normalised; neither may become a library.
    """
    level = np.array([row.mean(dtype=np.float64) for row in rows])
    order = np.lexsort((labels[:, 0], *labels[:, 1:].T))
    same = (np.diff(labels[order, 1:], axis=0) == 0.0).all(axis=1)
    if not same.any():
        return None
    slopes = np.diff(level[order])[same] / np.diff(np.log(labels[order, 0]))[same]
    rising, slope = float(np.mean(slopes > 0.0)), float(np.median(slopes))
    name = source.notes["source"]
    if rising < RISING or slope < STEEPEST_NORMALISED:
        raise LibraryImportError(
            f"{name}: the mean flux rises between {100 * rising:.0f} % of the nodes that are neighbours in Teff "
            f"(expected: {100 * RISING:.0f} % or more), with d ln F / d ln Teff = {slope:.2f} in the median (expected: "
            f"above {STEEPEST_NORMALISED}). Either the labels do not belong to the spectra (in a FERRE file, another "
            f"dimension than the last may vary fastest: reorder its lines), or the flux is continuum-normalised: a "
            f"library needs absolute surface flux, since a binary is a sum weighted by R^2"
        )
    return round(slope, 3)


def _notes(source: SpectrumSource, choices: Choices, reader: _Reader, fixed: Mapping[str, float]) -> dict[str, Any]:
    notes = dict(source.notes)
    stated = notes.get("header_wavelengths", "not said")
    warnings = []
    if stated not in ("not said", choices.wavelengths):
        warnings.append(f"the header says {stated} wavelengths; they were taken as {choices.wavelengths}, as asked")
    return notes | {
        "wavelengths": choices.wavelengths,
        "source_resolution": reader.resolution,
        "resolution": RESOLUTION,
        "selected": dict(choices.select),
        "fixed_labels": dict(fixed),
        "flux_unit": "as in the source; only ratios between stars count, so a factor common to all nodes is free",
        "warnings": warnings,
    }


def _check_space(folder: Path, nodes: int) -> None:
    needed, free = nodes * _PIXELS * 4, shutil.disk_usage(folder).free
    if needed > free:
        raise LibraryImportError(
            f"{folder} has {free / 1e9:.1f} GB free, and {nodes} nodes need {needed / 1e9:.1f} GB of scratch there; "
            f"write the library to another disk"
        )


@contextmanager
def _scratch(out: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A file beside ``out`` that is gone afterwards, whatever happens."""
    path = out.with_name(f".{out.name}.{os.getpid()}-{uuid4().hex[:8]}.scratch")
    try:
        with path.open("wb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)
