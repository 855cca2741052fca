"""MIST's ``.track.eep`` text files, loose or in compressed archives: one file's bytes become one track, or an error.

The layout (Dotter 2016, the writer of the ``iso`` code): ``#`` lines with a line of names above each line of values,
then the names of the columns, then one row for each EEP from EEP 1 on. Headers and columns are read by name, since
their number and order differ between versions, and file names are never trusted.
"""

from __future__ import annotations

import itertools
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SUFFIX = ".track.eep"
"""How names of track files end."""

ARCHIVES = (".txz", ".tar.xz", ".tgz", ".tar.gz")
"""How names of archives end. A plain ``.tar`` is not among them: cut short, it would not show it."""

COLUMNS = ("star_age", "star_mass", "log_L", "log_Teff")
"""Columns that are used: yr, solar masses, log10 of solar luminosities, log10 of K."""

_SUFFIXES = (SUFFIX, *ARCHIVES)
_KNOWN = f"*{SUFFIX} file or archive ({', '.join('*' + suffix for suffix in ARCHIVES)})"
_ALPHA_NAMES = ("[a/Fe]", "[alpha/Fe]")
_ROUNDING = 1e-9
"""An age that falls by less than this part of it does so by rounding; official files are reported to have that."""
_MOST_MOVED = 10  # EEPs of a track; more is no rounding
_LEAST_STEP = 1e-12  # dex, of log age, after the repair: far above what a sum of float64 numbers loses
_DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)
"""What reading a damaged archive can raise."""


class TrackFileError(ValueError):
    """Track files are missing, damaged, of another layout, or contradict each other."""


@dataclass(frozen=True)
class TrackFile:
    """One track as its file has it."""

    source: str
    """File, or archive and member."""
    models: str
    """First line without its ``#``: whose models, which version."""
    feh: float
    """Initial [Fe/H]."""
    alpha: float
    """Initial [alpha/Fe]."""
    mass: float
    """Initial mass, solar masses."""
    helium: float
    """Initial mass fraction of helium; NaN where the header does not say."""
    metals: float
    """Initial mass fraction of metals; NaN where the header does not say."""
    rotation: float
    """Initial v/v_crit; NaN where the header does not say."""
    table: NDArray[np.float64]
    """Log age (years), log L, log Teff and current mass from EEP 1 on, (eep, 4); the age rises along it."""
    moved: int
    """EEPs whose age had to be moved, within its rounding, to rise."""


def find(sources: Sequence[str | Path]) -> list[Path]:
    """List the track files and archives that ``sources`` name; folders are searched with their subfolders.

    Raises
    ------
    TrackFileError
        If a source does not exist, is no track file and no archive, or is a folder without any.
    """
    files: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            below = [path for path in sorted(source.rglob("*")) if _is_named(path.name, _SUFFIXES) and path.is_file()]
            if not below:
                raise TrackFileError(f"{source}: no {_KNOWN} in this folder or below it")
            files += below
        elif not source.exists():
            raise TrackFileError(f"{source} does not exist")
        elif _is_named(source.name, _SUFFIXES):
            files.append(source)
        else:
            raise TrackFileError(f"{source} is neither a folder nor a {_KNOWN}")
    return files


def _is_named(name: str, suffixes: tuple[str, ...]) -> bool:
    # Copies from a Mac bring shadows named ._NAME along.
    return name.endswith(suffixes) and not name.startswith(".")


def _printable(name: str) -> str:
    # A file name that is no UTF-8 reads as lone surrogates, which neither stores nor terminals take.
    return name.encode("utf-8", "backslashreplace").decode()


def read(path: Path) -> Iterator[TrackFile | TrackFileError]:
    """Read a track file, or all of an archive without unpacking it to disk; what cannot be read comes as an error."""
    name = _printable(str(path))
    if path.name.endswith(ARCHIVES):
        yield from _read_archive(path, name)
        return
    try:
        yield parse(path.read_bytes(), name)
    except OSError as error:
        yield TrackFileError(f"{name}: cannot be read: {error}")
    except TrackFileError as error:
        yield error


def _read_archive(path: Path, name: str) -> Iterator[TrackFile | TrackFileError]:
    n_members = 0
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                if not (member.isfile() and _is_named(Path(member.name).name, (SUFFIX,))):
                    continue
                content = archive.extractfile(member)
                data = b"" if content is None else content.read()
                n_members += 1
                try:
                    yield parse(data, f"{name}: {_printable(member.name)}")
                except TrackFileError as error:
                    yield error
    except _DAMAGE as error:
        yield TrackFileError(
            f"{name}: the archive is damaged or cut short after {n_members} track files "
            f"({error or type(error).__name__}); download it again"
        )
        return
    if not n_members:
        yield TrackFileError(f"{name}: no *{SUFFIX} file in this archive")


def parse(data: bytes, source: str) -> TrackFile:
    """Read a track from the content of its file.

    Parameters
    ----------
    data
        Content of the file.
    source
        Its name, for errors and provenance.

    Raises
    ------
    TrackFileError
        Naming the file, what was found, what was expected and what to do.
    """
    lines = data.decode("latin-1").rstrip().splitlines()
    if not lines:
        raise TrackFileError(f"{source}: is empty; get the file again")
    n_header = next((row for row, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header, body = lines[:n_header], lines[n_header:]
    composition = _values(header, "[Fe/H]", source)
    star = _values(header, "initial_mass", source)
    n_points = _number(star, "N_pts", source)
    if not body:
        raise TrackFileError(
            f"{source}: is truncated: a header and no row, N_pts says {n_points:.0f}; get the file again"
        )
    names = header[-1].lstrip("#").split()
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise TrackFileError(
            f"{source}: no column {', '.join(missing)} among the {len(names)} of line {n_header} "
            f"({' '.join(names[:8])}{' ...' if len(names) > 8 else ''}); get the track with all columns"
        )
    _refuse_truncated(data, header[-1], body, n_points, source)
    log_age, moved = _rising(table := _table(body, names, n_header, source), source)
    alpha_name = next((name for name in _ALPHA_NAMES if name in composition), _ALPHA_NAMES[0])
    track = TrackFile(
        source=source,
        models=header[0].lstrip("#").strip(),
        feh=_number(composition, "[Fe/H]", source),
        alpha=_number(composition, alpha_name, source),
        mass=_number(star, "initial_mass", source),
        helium=_number(composition, "Yinit", source, required=False),
        metals=_number(composition, "Zinit", source, required=False),
        rotation=_number(composition, "v/vcrit", source, required=False),
        table=np.column_stack([log_age, table[:, 2:], table[:, 1]]),
        moved=moved,
    )
    if track.mass <= 0:
        raise TrackFileError(f"{source}: the header gives initial_mass as {track.mass:g}, expected above 0")
    return track


def _values(header: list[str], key: str, source: str) -> dict[str, str]:
    """The header's values by name, from the line that names ``key`` and the line below it."""
    for line, below in itertools.pairwise(header):
        names, values = line.lstrip("#").split(), below.lstrip("#").split()
        if key in names and len(names) > len(values):
            raise TrackFileError(f"{source}: the header names {' '.join(names)} and gives only {' '.join(values)}")
        if key in names:
            return dict(zip(names, values, strict=False))
    raise TrackFileError(
        f"{source}: no line with the name {key} among the {len(header)} lines that begin with '#'; "
        f"this is no track in MIST's {SUFFIX} layout"
    )


def _number(values: dict[str, str], name: str, source: str, *, required: bool = True) -> float:
    text = values.get(name)
    if text is None and not required:
        return float("nan")
    try:
        number = float("" if text is None else text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise TrackFileError(f"{source}: the header gives {name} as {text!r}, expected a number; get the file again")
    return number + 0.0  # no negative zero: -0.00 and 0.00 are one composition


def _refuse_truncated(data: bytes, names: str, body: list[str], n_points: float, source: str) -> None:
    if len(body) != n_points:
        what = "is truncated" if len(body) < n_points else "has too many rows"
        raise TrackFileError(
            f"{source}: {what}: {len(body)} rows, the header's N_pts says {n_points:.0f}; get the file again"
        )
    # A cut inside the last number leaves another number; fields are as wide as their names', so the row is too short.
    if not data.endswith((b"\n", b"\r")) and len(body[-1]) < len((body[-2] if len(body) > 1 else names).rstrip()):
        raise TrackFileError(
            f"{source}: is truncated: row {len(body)}, the last, ends in the middle; get the file again"
        )


def _table(body: list[str], names: list[str], n_header: int, source: str) -> NDArray[np.float64]:
    """The columns that are used, (eep, 4)."""
    rows = [line.split() for line in body]
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise TrackFileError(
                f"{source}: line {n_header + number + 1} (EEP {number + 1}) has {len(row)} values for {len(names)} "
                "columns; get the file again"
            )
    places = [names.index(name) for name in COLUMNS]
    texts = [[row[place] for place in places] for row in rows]
    try:
        return np.array(texts, dtype=np.float64)
    except ValueError:
        eep, name, text = next(
            (eep, name, text)
            for eep, row in enumerate(texts, start=1)
            for name, text in zip(COLUMNS, row, strict=True)
            if not _is_number(text)
        )
        raise TrackFileError(f"{source}: {name} at EEP {eep} is {text!r}, no number; get the file again") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rising(table: NDArray[np.float64], source: str) -> tuple[NDArray[np.float64], int]:
    """Log ages (eep,) of a table of :data:`COLUMNS`, rising, and at how many EEPs rounding was mended for that."""
    if len(table) < 2:
        raise TrackFileError(f"{source}: {len(table)} EEP; a track needs two at least; leave the file out")
    bad = ~np.isfinite(table)
    bad[:, :2] |= table[:, :2] <= 0  # their logarithms are taken
    if bad.any():
        row, column = np.argwhere(bad)[0]
        expected = "a number above 0" if column < 2 else "a finite number"
        raise TrackFileError(
            f"{source}: {COLUMNS[column]} at EEP {row + 1} is {table[row, column]:g}, expected {expected}; "
            "get the file again or leave it out"
        )
    age = table[:, 0]
    log_age = np.log10(age)
    flat = np.flatnonzero(np.diff(log_age) < _LEAST_STEP)
    if not flat.size:
        return log_age, 0
    falls = np.flatnonzero(np.diff(age) < -_ROUNDING * age[1:])
    if falls.size or flat.size > _MOST_MOVED:
        row = falls[0] if falls.size else flat[0]
        raise TrackFileError(
            f"{source}: age does not rise from EEP {row + 1} to {row + 2} ({age[row]:.10g} yr, then "
            f"{age[row + 1]:.10g} yr); leave the file out"
        )
    for row in range(int(flat[0]), len(age) - 1):
        log_age[row + 1] = max(log_age[row + 1], log_age[row] + _LEAST_STEP)
    return log_age, int((log_age != np.log10(age)).sum())
