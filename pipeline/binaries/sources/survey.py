"""Stars of a survey: groups exposures, weighs their evidence, and keeps the table of stars beside the fits.

The table appears whole, as the newest ``sources-<number>.zarr`` beside the fits it is made of. Orbits are a step of
their own (:mod:`twinlines.pipeline.binaries.sources.orbits`): a star has the best of them in the table as long as its
velocities are those it was sampled for.
"""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.evidence.evidence import Prevalence, evidence_of, read_exposures
from twinlines.pipeline.binaries.evidence.model import Calibration, shipped
from twinlines.pipeline.binaries.fits.store import (
    STEM,
    FitsError,
    fits_folder,
    has_fits,
    join,
    load_fits,
    unfitted_folder,
)
from twinlines.pipeline.binaries.fits.survey import LOCK
from twinlines.pipeline.binaries.grouping import NO_STAR, RADIUS, group
from twinlines.pipeline.binaries.schema import FITS, SOURCES
from twinlines.pipeline.binaries.sources import solutions
from twinlines.pipeline.binaries.sources.source import Sources, sources
from twinlines.pipeline.binaries.sources.stars import AllStars, of_fits, summaries
from twinlines.pipeline.binaries.zeropoints.calibrated import (
    command_again,
    open_zero_points,
    table_in_force,
    zero_points_of,
)
from twinlines.pipeline.binaries.zeropoints.pairs import on_one_scale
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.jobs import locks
from twinlines.pipeline.jobs.markers import now
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.folder import Survey

NUMERICS = 2
"""Numerical version of sources and orbits: raised with every change that alters a result."""

SOURCES_STEM = "sources"
"""Kind of the stores that hold the table of stars."""


class StaleWarning(UserWarning):
    """Stars were made before the last catalog, fits or zero points, or are made without zero points that there were."""


class CalibrationWarning(UserWarning):
    """Evidence was calibrated with another ensemble than the one that judged."""


@one_thread()
def make_sources(survey: str | Path, *, radius: float = RADIUS, prevalence: Prevalence | None = None) -> xr.Dataset:
    """Group a survey's exposures into stars, decide which of two is which, and keep the table beside the fits.

    Where nothing was fitted, evidence and velocity ranges are those of the catalog; no star shows two sets of lines.

    Parameters
    ----------
    survey
        Folder of the survey.
    radius
        Exposures within this angle are of one star, transitively, arcsec.
    prevalence
        How many stars are binaries, beforehand.

    Returns
    -------
    xr.Dataset
        Rows of :data:`.schema.SOURCES`, all stars of the catalog: those that show two sets of lines first, of them
        those with the most such exposures, then the others, the likeliest binaries first; with the orbits that were
        sampled for the same velocities.

    Raises
    ------
    CatalogError
        If the survey has no catalog.
    FitsError
        If its fits are damaged.
    ZeroPointError
        If the catalog has zero points, and their table is gone.
    LockedError
        If somebody else fits this survey.
    """
    if not 0.0 < radius < 3600.0:
        raise FitsError(f"the radius of a star is {radius} arcsec; give one above 0 and below 3600")
    prevalence, calibration, place = prevalence or Prevalence(), shipped(), Path(survey).resolve()
    catalog = catalogs.open(place)  # says what is wrong, where there is no survey
    folder = fits_folder(place) if has_fits(place) else unfitted_folder(place)
    rows = rows_of_stars(place, radius, catalog)
    stars = sources(rows, radius=radius)
    _require_calibrated(catalog, calibration)
    star = group(catalog["ra"].values, catalog["dec"].values, radius=radius)
    count = int(star.max(initial=NO_STAR)) + 1
    weighed = evidence_of(read_exposures(catalog), star, count, prevalence=prevalence, calibration=calibration)
    mine = star[rows["place"].values]
    every = {**summaries(catalog, star, count), **of_fits(rows, mine, count)}
    first = np.array([members[0] for members in stars.members], np.int64)
    double = stars.table.assign(velocities_hash=("source", hashes_of(stars)))
    whole = AllStars.of(every, weighed, double, mine[first])
    about = {
        "numerics": NUMERICS,
        "catalog": rows.attrs["name"],
        **_content(catalog.attrs),
        "fits": rows.attrs["fits"],
        "radius": radius,
        "prevalence": asdict(prevalence),
        "calibration": calibration.digest,
        "exposures_without_position": int((star == NO_STAR).sum()),
    }
    if "zero_points" in rows.attrs:
        about["zero_points"] = Path(json.loads(rows.attrs["zero_points"])["table"]).name
    elif again := command_again(place):
        warnings.warn(
            f"the current catalog of {survey} has no zero points, and an earlier one had: the stars' velocities are as "
            f"measured; {again!r} and then this command put them on one scale again",
            StaleWarning,
            stacklevel=3,
        )
    folder.mkdir(parents=True, exist_ok=True)
    with locks.lock(place, "twinlines binaries sources", LOCK):
        return publish(folder, {name: whole.column(name) for name in SOURCES.variables}, about)


def _require_calibrated(catalog: xr.Dataset, calibration: Calibration) -> None:
    """Warn where the evidence was calibrated with another ensemble than the catalog's."""
    weights, calibrated = str(catalog.attrs.get("weights_digest", "")), calibration.about.get("weights", "")
    if weights and weights != calibrated:
        warnings.warn(
            f"the catalog is of the weights {weights[:12]}..., and evidence over epochs was calibrated with "
            f"{calibrated[:12]}...: sb2_probability may be off; 'python benchmarks/evidence.py --calibrate FILE "
            "--weights FOLDER' calibrates anew",
            CalibrationWarning,
            stacklevel=4,
        )


def hashes_of(stars: Sources) -> NDArray[np.uint64]:
    """``velocities_hash`` of each star, (source,)."""
    every = zip(stars.epochs, stars.exchange, strict=True)
    return np.array([solutions.short(solutions.digest_of(*each)) for each in every], np.uint64)


def publish(folder: Path, columns: Mapping[str, NDArray[Any]], about: Mapping[str, object]) -> xr.Dataset:
    """Let a table be that of a survey's stars, with the orbits of its velocities; the caller holds the lock."""
    whole = {**columns, **solutions.table_columns(folder, columns["velocities_hash"])}
    table = SOURCES.dataset(whole, len(columns["obsid"]))
    numbered.put(
        *(folder, SOURCES_STEM, SOURCES, table.sizes["source"], lambda name: table[name].values),
        {**about, "created": now()},
    )
    return table


def rows_of_stars(survey: Path, radius: float, catalog: xr.Dataset | None = None) -> xr.Dataset:
    """All exposures, with their fits, of the stars of which one was fitted; ``place`` is their row in the catalog.

    On one scale, if the catalog has zero points. The catalog is the current one, if no other is at hand: whoever has
    opened one gives it, as another may have been published since.
    """
    path, fits = None, FITS.dataset({}, 0)
    if has_fits(survey):
        path, fits = numbered.newest(fits_folder(survey), STEM), load_fits(survey)
    catalog = catalogs.open(survey) if catalog is None else catalog
    star = group(catalog["ra"].values, catalog["dec"].values, radius=radius)
    fitted = np.isin(catalog["obsid"].values, fits["obsid"].values)
    mine = np.flatnonzero(np.isin(star, star[fitted & (star >= 0)]))
    rows = join(catalog.isel(exposure=mine).load(), fits)
    rows = on_one_scale(rows, zero_points_of(survey, catalog))
    return rows.assign(place=("exposure", mine)).assign_attrs(fits="" if path is None else path.name)


def scale_of(survey: str | Path, table: xr.Dataset) -> xr.Dataset | None:
    """Zero points with which a table of stars was made, whatever was published since; None: without.

    Raises
    ------
    ZeroPointError
        If they are gone.
    """
    name = str(table.attrs.get("zero_points", ""))
    return open_zero_points(survey, name).load() if name else None


def open_sources(survey: str | Path) -> xr.Dataset:
    """Open a survey's stars: those that show two sets of lines first, then the likeliest double-lined binaries.

    Parameters
    ----------
    survey
        Folder of the survey.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.binaries.schema.SOURCES`.

    Raises
    ------
    FitsError
        If the survey has none.

    Examples
    --------
    >>> import twinlines as tw
    >>> stars = tw.open_sources("S")  # doctest: +SKIP
    >>> stars.period, stars.mass_ratio  # doctest: +SKIP
    """
    path, fits = _newest_table(Path(survey))
    advice = f"'twinlines binaries sources --survey {survey}' makes them"
    if path is None:
        raise FitsError(f"{survey} has no stars yet; {advice}")
    try:
        table = numbered.read(path, SOURCES)
    except stores.StoreError as error:
        raise FitsError(f"{survey}: {error}; {advice} again") from error
    if said := _other_catalog(Survey(Path(survey)), table.attrs):
        warnings.warn(f"the stars of {survey} are of {said}; {advice} anew", StaleWarning, stacklevel=2)
    if fits is not None and table.attrs.get("fits") != fits.name:  # or of none
        warnings.warn(
            f"the stars of {survey} are of fits that were added to since; {advice} anew", StaleWarning, stacklevel=2
        )
    if (zero_points := table_in_force(survey)) != table.attrs.get("zero_points", ""):
        said, first = f"before the zero points {zero_points} were", ""
        if not zero_points:
            said, first = "with zero points that the catalog lacks", f"{command_again(survey)!r} computes them, then "
        warnings.warn(
            f"the stars of {survey} are of velocities {said}; {first}{_anew(survey)} make them anew; fits stay",
            StaleWarning,
            stacklevel=2,
        )
    return table


def _content(about: Mapping[str, Any]) -> dict[str, str]:
    """What tells a catalog's exposures and verdicts from another's, zero points or not, by what it says of itself."""
    return {name: str(about.get(name, "")) for name in ("exposures", "run")}


def _other_catalog(survey: Survey, about: Mapping[str, Any]) -> str:
    """The catalog that a table of stars is of, and the current one, in words; "" if they are of one content."""
    mine, current = str(about.get("catalog", "")), survey.current
    if current is None:
        return ""
    # Tables of before say the catalog's name alone; one that is gone tells nothing.
    had = _content(about if "exposures" in about else survey.about_catalog(mine))
    has = _content(survey.about_catalog(current.name))
    if had == has or not any(had.values()):
        return ""
    differs = " and ".join(
        words for name, words in (("exposures", "other exposures"), ("run", "other verdicts")) if had[name] != has[name]
    )
    return f"the catalog {mine}, and the current one, {current.name}, has {differs}"


def commands_again(survey: str | Path) -> str | None:
    """Commands that make a survey's stars and orbits of the zero points in force; None: they are, or there are none."""
    try:
        path, _ = _newest_table(Path(survey))
        said = {} if path is None else numbered.read(path, SOURCES).attrs
    except (FitsError, stores.StoreError):
        return None
    if path is None or said.get("zero_points", "") == table_in_force(survey):
        return None
    return _anew(survey)


def _newest_table(survey: Path) -> tuple[Path | None, Path | None]:
    """The newest stores of stars and of fits; stars made before anything was fitted count till there are others.

    Raises
    ------
    FitsError
        If there is no survey, or it does not say which fits are its own.
    """
    if not has_fits(survey):
        if not survey.is_dir():
            raise FitsError(f"there is no survey at {survey}")
        return numbered.newest(unfitted_folder(survey), SOURCES_STEM), None
    folder = fits_folder(survey)
    table = numbered.newest(folder, SOURCES_STEM) or numbered.newest(unfitted_folder(survey), SOURCES_STEM)
    return table, numbered.newest(folder, STEM)


def _anew(survey: str | Path) -> str:
    commands = (f"twinlines binaries {name} --survey {shlex.quote(str(survey))}" for name in ("sources", "orbits"))
    return " and then ".join(map(repr, commands))
