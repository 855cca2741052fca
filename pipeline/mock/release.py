"""Mock releases: a folder of LAMOST-format FITS files whose stars, orbits and defects are known.

What is written is what the survey's reduction would hand over: the same names, folders, formats, pixels, noise,
cosmic rays, bad columns and wild pixels, and on demand a ruined night, a truncated file, a missing arm, a text file
that claims to be FITS and a file that is there twice. The truth stands beside the files in ``truth.ecsv`` and
``files.ecsv``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import get_args

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.lamost import reader
from twinlines.pipeline.lamost.exposures import name_of
from twinlines.pipeline.lamost.layout import HeaderValue
from twinlines.pipeline.lamost.times import date_of_mjd
from twinlines.pipeline.lamost.writer import Layout
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.mock.plates import FIBRES, SPECTROGRAPHS, Night, Plate, draw_plates, observe
from twinlines.pipeline.mock.spectra import Frames, detector
from twinlines.pipeline.mock.stars import Mixture, draw_stars
from twinlines.pipeline.mock.zeropoints import misplace, references
from twinlines.pipeline.progress import Progress
from twinlines.pipeline.stars.tracks import Tracks

RUINED, TRUNCATED, TEXT, DUPLICATE = "ruined night", "truncated file", "text file", "duplicate"
NO_ARM: dict[ArmName, str] = {"B": "no blue arm", "R": "no red arm"}
"""What defects are called in the truth."""

TRUTH, FILES = "truth.ecsv", "files.ecsv"
"""The tables of the truth: a row per exposure, a row per file."""

REFERENCES = "references.ecsv"
"""Reference velocities, as Gaia has them, of a release that has zero points."""

_KEPT = 0.6  # of a truncated file
_AGAIN = Path("again")  # where files are a second time
_PAGE = "<html><head><title>503 Service Unavailable</title></head><body>Try again later.</body></html>\n"

_Fates = Mapping[tuple[int, int, int], str]
"""Defects of files by (plate, night, place on the plate)."""


class MockError(ValueError):
    """A mock release cannot be made as asked."""


@dataclass(frozen=True)
class MockDefects:
    """How much goes wrong in a mock release, beside what always does."""

    ruined_nights: int = 1
    """Nights, of one plate each, of which every exposure holds only noise."""
    truncated_files: int = 1
    """Files of which the last part is missing."""
    missing_arms: int = 1
    """Files that have exposures of one arm only."""
    text_files: int = 1
    """Files that are named like the others but hold an HTML page."""
    duplicates: int = 1
    """Files that are there a second time in another folder."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) < 0:
                raise MockError(f"{item.name} is {getattr(self, item.name)}; it counts defects and cannot be negative")


@dataclass(frozen=True)
class MockConfig:
    """What a mock release looks like."""

    mixture: Mixture = field(default_factory=Mixture)
    """Kinds of stars."""
    defects: MockDefects = field(default_factory=MockDefects)
    """What goes wrong."""
    stars_per_plate: int = 12
    """Stars that are observed together; each plate is somewhere else on the sky."""
    nights: tuple[int, int] = (2, 4)
    """Fewest and most good nights of a plate: files of each star."""
    exposures: tuple[int, int] = (2, 4)
    """Fewest and most exposures of a night."""
    cosmic_rays: float = 4.0
    """Mean number of cosmic rays in an exposure of one arm."""
    zero_points: float = 0.0
    """Standard deviation of zero points of spectrographs, exposures and arms, km/s. Above 0, the release has a table of
    reference velocities, :data:`REFERENCES`, and the truth has the zero points."""
    median_snr: float = 22.0
    """Median S/N of the stars in the blue arm, of 5 to 80; the red arm has 1.4 to 2.1 times as much, up to 120."""


@dataclass(frozen=True)
class MockTruth:
    """What is in a mock release."""

    folder: Path
    """The release's folder."""
    exposures: Table
    """A row per exposure: star, time, velocities, S/N, file, defect; units in the table."""
    files: Table
    """A row per file: its path within the folder, its defect, its number of exposures."""

    @classmethod
    def read(cls, folder: str | Path) -> MockTruth:
        """Read the truth of the mock release in ``folder``.

        Raises
        ------
        FileNotFoundError
            If no mock release is there.
        """
        folder = Path(folder)
        for name in (TRUTH, FILES):
            if not (folder / name).exists():
                raise FileNotFoundError(f"{folder} has no {name}; it is not a whole mock release")
        exposures, files = (Table.read(folder / name) for name in (TRUTH, FILES))
        for table in (exposures, files):
            table["defect"] = np.ma.filled(table["defect"].astype(str), "")  # an empty text is read as a masked one
        return cls(folder, exposures, files)

    def summary(self) -> dict[str, object]:
        """Numbers of stars by kind, of exposures, files and defects."""
        kinds, stars = np.asarray(self.exposures["kind"]), np.asarray(self.exposures["star"])
        defects = [text for text in np.asarray(self.files["defect"]).tolist() if text]
        return {
            "folder": str(self.folder),
            "stars": {str(kind): len(np.unique(stars[kinds == kind])) for kind in np.unique(kinds)},
            "exposures": len(stars),
            "files": len(self.files),
            "defects": {text: defects.count(text) for text in sorted(set(defects))},
        }


def make_release(
    out: str | Path,
    *,
    stars: int,
    seed: int,
    layout: Layout = "rows",
    config: MockConfig | None = None,
    progress: Progress | None = None,
) -> MockTruth:
    """Write a mock release.

    Parameters
    ----------
    out
        Folder for it, new or empty.
    stars
        Number of stars.
    seed
        The same seed, number of stars and configuration give the same release.
    layout
        "rows" (releases up to DR8) or "vectors" (from DR9).
    config
        What the release looks like.
    progress
        Called with (stage, done, total) after each plate.

    Raises
    ------
    FileExistsError
        If the folder is there and not empty.
    MockError
        If there is no star, or no such layout, or there are fewer files than defects asked for.

    Examples
    --------
    >>> import twinlines as tw
    >>> truth = tw.mock_release("fits", stars=30, seed=1)  # doctest: +SKIP
    >>> truth.exposures["kind", "v1", "v2"]  # doctest: +SKIP
    """
    out, config = Path(out), config or MockConfig()
    if stars < 1:
        raise MockError(f"a mock release needs one star or more (asked: {stars})")
    if layout not in get_args(Layout):
        raise MockError(f"layout is {layout!r}; give one of {', '.join(get_args(Layout))}")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; name a new folder for the mock release")

    rng = np.random.default_rng([seed, 0])
    library = Library.load()
    population = draw_stars(stars, rng, config.mixture, Tracks.load(), library)
    blue = np.clip(config.median_snr * np.exp(rng.normal(0.0, 0.55, stars)), 5.0, 80.0)
    snr: dict[ArmName, NDArray[np.float64]] = {"B": blue, "R": np.minimum(blue * rng.uniform(1.4, 2.1, stars), 120.0)}
    ruined = config.defects.ruined_nights
    plates = draw_plates(stars, config.stars_per_plate, config.nights, config.exposures, ruined, rng)
    fates = _fates(plates, config.defects, rng)
    out.mkdir(parents=True, exist_ok=True)
    detectors = {name: {spid: detector(name, spid, seed) for spid in range(1, SPECTROGRAPHS + 1)} for name in ARM_NAMES}

    tables: list[Table] = []
    files: list[tuple[str, str, int]] = []
    with _whole_or_gone(out):
        with ThreadPoolExecutor() as pool:  # compression, most of the time, runs outside the interpreter's lock
            for number, plate in enumerate(plates):
                # A stream of its own for each plate: no plate depends on another.
                stream = np.random.default_rng([seed, 2, number])
                table, frames = observe(plate, population, snr, detectors, library, config.cosmic_rays, stream)
                if config.zero_points > 0.0:
                    frames = misplace(table, frames, config.zero_points, np.random.default_rng([seed, 3, number]))
                files += _write_plate(out, number, plate, table, frames, fates, layout, pool)
                tables.append(table)
                if progress:
                    progress("mock release", number + 1, len(plates))
        files += _write_pages(out, plates, config.defects.text_files, rng)
        truth = MockTruth(out, vstack(tables), Table(rows=sorted(files), names=("file", "defect", "exposures")))
        truth.exposures.write(out / TRUTH)
        truth.files.write(out / FILES)
        if config.zero_points > 0.0:
            references(truth.exposures, np.random.default_rng([seed, 4])).write(out / REFERENCES)
    return truth


@contextmanager
def _whole_or_gone(folder: Path) -> Iterator[None]:
    """Leave no part of a release behind, which the next attempt would stumble on."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _fates(plates: list[Plate], defects: MockDefects, rng: np.random.Generator) -> _Fates:
    """Choose the files to be spoilt among those of good nights."""
    places = [
        (number, index, place)
        for number, plate in enumerate(plates)
        for index, night in enumerate(plate.nights)
        if not night.ruined
        for place in range(len(plate.star))
    ]
    names = [TRUNCATED] * defects.truncated_files + [DUPLICATE] * defects.duplicates
    names += [NO_ARM[ARM_NAMES[i % 2]] for i in range(defects.missing_arms)]
    if len(names) > len(places):
        raise MockError(f"{len(names)} files are to be spoilt, but the release has only {len(places)}; add stars")
    chosen = rng.choice(len(places), len(names), replace=False)
    return {places[index]: name for index, name in zip(chosen.tolist(), names, strict=True)}


def _write_plate(
    out: Path,
    number: int,
    plate: Plate,
    table: Table,
    frames: dict[ArmName, Frames],
    fates: _Fates,
    layout: Layout,
    pool: ThreadPoolExecutor,
) -> list[tuple[str, str, int]]:
    """Write the files of a plate, add file and defect to its ``table``, and return its rows of the table of files."""
    files: list[tuple[str, str, int]] = []
    names: list[str] = []
    defects: list[str] = []
    written: list[Future[None]] = []
    row = 0
    for index, night in enumerate(plate.nights):
        folder = _folder(plate, night)
        (out / folder).mkdir(parents=True, exist_ok=True)
        for place in range(len(plate.star)):
            rows = np.arange(row, row + len(night.start))
            row += len(rows)
            fate = fates.get((number, index, place), RUINED if night.ruined else "")
            arms = [name for name in ARM_NAMES if fate != NO_ARM[name]]
            for name in set(ARM_NAMES) - set(arms):
                table[f"snr_{name}"][rows] = np.nan
            file = _mrs_file(plate, night, place, table["lmjm"][rows].tolist(), rows, frames, arms)
            path = folder / (reader.file_name(file) + ".gz")
            # The survey's keyword has the opposite sign of the correction that was added.
            header: dict[str, HeaderValue] = {
                "OBJNAME": f"mock {plate.star[place]}",
                "HELIO_RV": -float(table["correction"][rows[0]]),
            }
            written.append(pool.submit(_write_file, out, path, file, layout, header, fate))
            files.append((str(path), "" if fate == DUPLICATE else fate, len(rows)))
            if fate == DUPLICATE:
                files.append((str(_AGAIN / path), DUPLICATE, len(rows)))
            names += [str(path)] * len(rows)
            defects += [fate] * len(rows)
    for future in written:
        future.result()
    table["file"], table["defect"] = names, defects
    return files


def _folder(plate: Plate, night: Night) -> Path:
    """Folder of a plate's files of a night, within the release: date of its evening, and plan."""
    return Path(date_of_mjd(night.lmjd - 1)[:10].replace("-", "")) / plate.planid


def _write_file(
    out: Path, path: Path, file: reader.MrsFile, layout: Layout, header: Mapping[str, HeaderValue], fate: str
) -> None:
    """Write one file, and spoil it as its fate says."""
    reader.write(out / path, file, layout, header=header)
    if fate == TRUNCATED:
        content = (out / path).read_bytes()
        (out / path).write_bytes(content[: int(_KEPT * len(content))])
    if fate == DUPLICATE:
        (out / _AGAIN / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / path, out / _AGAIN / path)


def _mrs_file(
    plate: Plate,
    night: Night,
    place: int,
    minutes: list[int],
    rows: NDArray[np.int64],
    frames: dict[ArmName, Frames],
    arms: list[ArmName],
) -> reader.MrsFile:
    """What a file holds: the exposures, begun at ``minutes``, of one star in one night."""
    exposures = []
    for row, minute, start in zip(rows.tolist(), minutes, night.start.tolist(), strict=True):
        both = {name: _arm_exposure(name, frames[name], row, start, plate.exptime) for name in arms}
        exposures.append(reader.Exposure(minute, both.get("B"), both.get("R")))
    return reader.MrsFile(
        obsid=int(plate.obsid(night)[place]),
        lmjd=night.lmjd,
        planid=plate.planid,
        spid=int(plate.spid[place]),
        fiberid=int(plate.fiberid[place]),
        ra=float(plate.ra[place]),
        dec=float(plate.dec[place]),
        exposures=tuple(exposures),
        date_beg=date_of_mjd(float(night.start[0])),
    )


def _arm_exposure(name: ArmName, frames: Frames, row: int, start: float, exptime: float) -> reader.ArmExposure:
    """One arm of one exposure in the file's order of pixels: red descends in wavelength."""
    order = slice(None, None, -1 if name == "R" else 1)
    return reader.ArmExposure(
        flux=frames.flux[row, order],
        ivar=frames.ivar[row, order],
        loglam=frames.loglam[row, order],
        mask=frames.mask[row, order],
        snr=float(frames.snr[row]),
        exptime=exptime,
        date_beg=date_of_mjd(start),
        date_end=date_of_mjd(start + exptime / 86400.0),
    )


def _write_pages(out: Path, plates: list[Plate], count: int, rng: np.random.Generator) -> list[tuple[str, str, int]]:
    """Write text files under names of fibres that are not in use."""
    files: list[tuple[str, str, int]] = []
    for number in range(count):
        plate = plates[number % len(plates)]
        night, spid = plate.nights[0], int(plate.spid[0])
        used = set(plate.fiberid[plate.spid == spid].tolist())
        fibre = int(rng.choice([fibre for fibre in range(1, FIBRES + 1) if fibre not in used]))
        path = _folder(plate, night) / name_of(night.lmjd, plate.planid, spid, fibre)
        (out / path).write_text(_PAGE)
        files.append((str(path), TEXT, 0))
    return files
