"""The import of tracks: any set of track files becomes one store, and a report of what it holds.

A set is imported whole, or not at all: what cannot be read is listed in one error, unless it is asked to be left out.
Two tracks of the same star are always an error, since nothing says which to believe.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.stars import mist_files, store
from twinlines.pipeline.stars.mist_files import TrackFile, TrackFileError
from twinlines.pipeline.stars.summary import TrackSummary, summarise
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.storage import stores

SUFFIX = ".zarr.zip"
"""How names of stores end."""

_LISTED = 10  # errors that a message spells out


@dataclass(frozen=True)
class TracksImportReport:
    """What an import has made."""

    file: str
    """The store."""
    models: dict[str, int]
    """Number of tracks by the first line of their files: whose models, which version."""
    rotation: list[float]
    """Initial v/v_crit that occur, where files state it."""
    ages_moved: int
    """EEPs whose ages were moved, by less than one part in 1e9, since they did not rise."""
    left_out: list[str]
    """Files that could not be read and were left out, with the reasons."""
    covers: TrackSummary
    """What the tracks cover."""

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-serialisable values."""
        return asdict(self)


def import_tracks(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    maximum_mass: float = np.inf,
    last_eep: int | None = None,
    skip_damaged: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> TracksImportReport:
    """Read track files in MIST's ``.track.eep`` layout and write them as one store.

    Parameters
    ----------
    sources
        Track files, archives of them, and folders, which are searched with their subfolders; any set of compositions.
    out
        Store to write, ``*.zarr.zip``.
    maximum_mass
        Leave out heavier tracks; solar masses.
    last_eep
        Cut tracks after this EEP; with both, all of MIST fits in the memory of a worker.
    skip_damaged
        Leave out what cannot be read, and report it, instead of importing nothing.
    overwrite
        Replace a store that exists.
    progress
        Told of files and archives.

    Raises
    ------
    TrackFileError
        If there is nothing to read, a file cannot be read, or two files hold tracks of the same star.
    twinlines.pipeline.storage.chunks.StoreError
        If ``out`` exists and ``overwrite`` is not set, or is not named ``*.zarr.zip``, or its folder is missing.
    """
    out = Path(out)
    _check_target(out, overwrite)
    if last_eep is not None and last_eep < 2:
        raise TrackFileError(f"last_eep is {last_eep}; a track needs two EEPs at least")
    tracks, errors = _read(mist_files.find(sources), maximum_mass, last_eep, progress)
    if errors and not skip_damaged:
        raise TrackFileError(
            _listed(f"{len(errors)} of the track files cannot be read", errors)
            + "\nnothing was imported; mend these, or leave them out (--skip-damaged, skip_damaged=True)"
        )
    if not tracks:
        raise TrackFileError(_listed(f"there is no track of at most {maximum_mass:g} Msun that can be read", errors))
    tracks.sort(key=_star)
    _refuse_duplicates(tracks)
    models = Counter(track.models for track in tracks)
    rotation = sorted({track.rotation for track in tracks if not np.isnan(track.rotation)})
    columns, eep = _columns(tracks)
    ages_moved = sum(track.moved for track in tracks)
    attrs = {"models": dict(models), "left_out": len(errors), "ages_moved": ages_moved}
    store.write(out, columns, eep, attrs)
    return TracksImportReport(str(out), dict(models), rotation, ages_moved, errors, summarise(Tracks.load(out)))


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.name.endswith(SUFFIX):
        raise stores.StoreError(f"{out}: a store of tracks is one zipped file; name it *{SUFFIX}")
    if not out.parent.is_dir():
        raise stores.StoreError(f"{out}: the folder {out.parent} does not exist; make it first")
    if out.exists() and not overwrite:
        raise stores.StoreError(f"{out} exists already; choose another name or allow it to be overwritten")


def _read(
    paths: Sequence[Path], maximum_mass: float, last_eep: int | None, progress: Progress
) -> tuple[list[TrackFile], list[str]]:
    """Read all tracks up to a mass, cut after an EEP, and the messages of what cannot be read."""
    tracks: list[TrackFile] = []
    errors: list[str] = []
    for done, path in enumerate(paths):
        progress("track files", done, len(paths))
        for track in mist_files.read(path):
            if isinstance(track, TrackFileError):
                errors.append(str(track))
            elif track.mass <= maximum_mass:
                # A copy, so that what is cut off does not stay in memory.
                tracks.append(replace(track, table=track.table[:last_eep].copy()))
    progress("track files", len(paths), len(paths))
    return tracks, errors


def _star(track: TrackFile) -> tuple[float, float, float]:
    """What makes a track the track of its star, in the order in which they are stored."""
    return track.feh, track.alpha, track.mass


def _refuse_duplicates(tracks: Sequence[TrackFile]) -> None:
    twins = [
        f"{first.source} and {second.source}: both {first.mass:g} Msun, [Fe/H] {first.feh:g}, "
        f"[alpha/Fe] {first.alpha:g} (v/v_crit {first.rotation:g} and {second.rotation:g})"
        for first, second in itertools.pairwise(tracks)
        if _star(first) == _star(second)
    ]
    if twins:
        raise TrackFileError(
            _listed(f"tracks of the same star in two files: {len(twins)}", twins)
            + "\nnothing was imported; give one set of models at a time, and each of its files once"
        )


def _listed(what: str, entries: Sequence[str]) -> str:
    """A message with the first entries, one a line, and how many more there are."""
    lines = [what, *(f"  {entry}" for entry in entries[:_LISTED])]
    if len(entries) > _LISTED:
        lines.append(f"  and {len(entries) - _LISTED} more")
    return "\n".join(lines)


def _columns(tracks: Sequence[TrackFile]) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64]]:
    """Stored variables of sorted tracks by name, and their EEPs from 1 on."""
    longest = max(len(track.table) for track in tracks)
    tables = np.full((4, len(tracks), longest), np.nan)
    for row, track in enumerate(tracks):
        tables[:, row, : len(track.table)] = track.table.T
    log_age, log_l, log_teff, star_mass = tables
    columns: dict[str, NDArray[Any]] = {
        name: np.array([getattr(track, name) for track in tracks])
        for name in ("feh", "alpha", "mass", "helium", "metals", "rotation")
    }
    columns["models"] = np.array([track.models for track in tracks], dtype=object)
    # Where the file is on this machine is nobody's business: its name and its folder's are.
    columns["source_file"] = np.array(["/".join(Path(track.source).parts[-2:]) for track in tracks], dtype=object)
    columns |= {"log_age": log_age, "log_l": log_l, "log_teff": log_teff, "star_mass": star_mass}
    return columns, np.arange(1.0, longest + 1.0)
