"""A survey's calibration: made from its current catalog, kept beside it, and opened with that catalog alone.

Stands in ``validation/<catalog>/calibration-<number>.zarr`` of the survey's folder: a row for each of the catalog's, in
its order, with the keys of these rows, so that it is never taken for that of another catalog.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.grouping import NO_STAR, group
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.catalog.questions import BOUNDED_FALSE, EXPECTED_FALSE
from twinlines.pipeline.jobs import locks
from twinlines.pipeline.jobs.markers import now
from twinlines.pipeline.lookup import NOWHERE, places_of
from twinlines.pipeline.schema import Quality
from twinlines.pipeline.storage import atomic
from twinlines.pipeline.survey.folder import SUFFIX, Survey
from twinlines.pipeline.validation.schema import CALIBRATION
from twinlines.pipeline.validation.trust import calibration, scores
from twinlines.pipeline.validation.trust.calibration import Calibration, Settings
from twinlines.pipeline.validation.trust.classes import NO_CLASS, Classes, TrustError
from twinlines.pipeline.validation.trust.lists import StarList, read_list
from twinlines.pipeline.validation.trust.nulls import NullCounts, NullRule, Velocities, presumed_single
from twinlines.pipeline.validation.trust.scores import Exposures

STEM = "calibration"
"""Kind of the stores."""

LOCK = ".validation.lock"
"""Lock of a survey's calibration: it goes on beside a run."""

KEYS = ("obsid", "lmjm", "content_hash")
"""Columns that tell whether a row is the catalog's."""

_NO_NAME = -1


@dataclass(frozen=True)
class TrustReport:
    """What was calibrated, and with what."""

    catalog: str
    """Name of the catalog."""
    store: Path
    """Where p-values and bounds are."""
    counts: NullCounts | None
    """How nulls were found; None: by a list."""
    listed: Mapping[str, Any] | None
    """The user's list."""
    calibration: Calibration
    """What came of it."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {
            "catalog": self.catalog,
            "store": str(self.store),
            "found": asdict(self.counts) if self.counts else None,
            "list": dict(self.listed) if self.listed else None,
            **self.calibration.summary(),
        }


@dataclass(frozen=True)
class CatalogStars:
    """A catalog's exposures by star, and its presumed single ones."""

    catalog: xr.Dataset
    """The catalog, lazy."""
    star: NDArray[np.int64]
    """(row,) number of each row's star."""
    exposures: Exposures
    """Those that can be judged."""
    nulls: NDArray[np.int64]
    """Numbers of the presumed single stars."""
    counts: NullCounts | None
    """How they were found; None: by a list."""
    listed: StarList | None
    """The list."""

    @property
    def null_names(self) -> NDArray[np.int64]:
        """Names of the nulls, as :attr:`.Exposures.name` has them."""
        return np.unique(self.exposures.name[np.isin(self.exposures.star, self.nulls)])


def stars_of(
    survey: str | Path,
    *,
    nulls: str | Path | None = None,
    rule: NullRule | None = None,
    classes: Classes | None = None,
) -> CatalogStars:
    """Read a survey's current catalog, group it into stars, and find the presumed single ones.

    Parameters
    ----------
    survey
        Folder of the survey.
    nulls
        A list of presumed single stars (:func:`.read_list`); None: the survey's own.
    rule
        What the survey's own must show.
    classes
        Classes in which widths of lines are compared.

    Raises
    ------
    CatalogError
        If there is no catalog, or it has no verdict of both arms.
    TrustError
        If the list cannot be used.
    """
    listed = None if nulls is None else read_list(nulls)
    catalog = catalogs.open(survey)
    probability = catalog.sb2.probability("J", penalty=scores.PENALTY).values
    if not np.isfinite(probability).any():
        raise TrustError(
            f"{catalog.attrs.get('name', survey)} has no verdict of both arms at penalty {scores.PENALTY}, which is "
            f"what is calibrated; 'twinlines run --survey {survey}' with an ensemble that judges both arms makes it"
        )
    names = ("obsid", "bjdmid", "lmjd", "lmjm", "ra", "dec")
    column = {name: catalog[name].values for name in names}
    star = group(column["ra"], column["dec"])
    snr = np.stack([catalog[f"snr_{arm}"].values for arm in ARM_NAMES], axis=1).astype(np.float64)
    warm = [catalog[f"rv_teff_{arm}"].values.astype(np.float64) for arm in ARM_NAMES]
    teff = np.where(np.isfinite(warm[0]), warm[0], warm[1])
    usable = catalog.sb2.is_clean()
    time = np.where(np.isfinite(column["bjdmid"]), column["bjdmid"], column["lmjm"] / 1440.0 + 2_400_000.5)
    exposures = Exposures.of(probability, star, time, column["obsid"], snr[:, 0], teff, usable)
    counts = None
    if listed is not None:
        found = listed.stars(column["obsid"], column["ra"], column["dec"], star)
    else:
        wide = (classes or Classes()).of(snr[:, 0], teff)
        # As few types as there are: what is compared is the width of lines at like temperature, whatever the S/N.
        wide = np.where(wide == NO_CLASS, NO_CLASS, wide // (len((classes or Classes()).snr) + 1))
        found, counts = presumed_single(_velocities(catalog, exposures, star, column["lmjd"], snr, wide), rule)
    return CatalogStars(catalog, star, exposures, found, counts, listed)


def _velocities(
    catalog: xr.Dataset,
    exposures: Exposures,
    star: NDArray[np.int64],
    night: NDArray[Any],
    snr: NDArray[np.float64],
    group_: NDArray[np.int64],
) -> Velocities:
    rows = exposures.row
    velocity, error, measured = [], [], []
    for arm in ARM_NAMES:
        scaled = catalog[f"rv_abs_{arm}"].values.astype(np.float64)
        own = catalog[f"rv_obs_{arm}"].values.astype(np.float64)
        bits = catalog[f"quality_{arm}"].values
        known = np.isfinite(scaled)
        # A velocity without a zero point is compared with those that have one: it gets the usual one.
        usual = np.median((scaled - own)[known]) if known.any() else 0.0
        value = np.where((bits & Quality.AMBIGUOUS_VELOCITY) > 0, np.nan, np.where(known, scaled, own + usual))
        velocity.append(value[rows])
        error.append(catalog[f"rv_obs_err_{arm}"].values.astype(np.float64)[rows])
        measured.append(known[rows])
    return Velocities(
        star=star[rows],
        night=night[rows].astype(np.int64),
        velocity=np.stack(velocity, axis=1),
        error=np.stack(error, axis=1),
        measured=np.stack(measured, axis=1),
        snr=snr[rows],
        group=group_[rows],
    )


def calibrate(
    survey: str | Path,
    *,
    nulls: str | Path | None = None,
    settings: Settings | None = None,
    rule: NullRule | None = None,
) -> TrustReport:
    """Calibrate a survey's current catalog against single stars, and keep what comes of it beside the catalog.

    Parameters
    ----------
    survey
        Folder of the survey.
    nulls
        A list of presumed single stars; None: the survey's own.
    settings
        How stars are compared.
    rule
        What the survey's own single stars must show.

    Raises
    ------
    CatalogError
        If there is no catalog.
    TrustError
        If there are too few nulls, or the list cannot be used; what was calibrated before stays.
    twinlines.pipeline.jobs.locks.LockedError
        If somebody else calibrates the survey.
    """
    settings = settings or Settings()
    place = Survey.at(survey)
    if place.path.is_dir():
        with locks.lock(place.path, "twinlines calibrate", LOCK):
            return _calibrate(place, nulls, settings, rule or NullRule())
    return _calibrate(place, nulls, settings, rule or NullRule())  # which says what is missing


def _calibrate(place: Survey, nulls: str | Path | None, settings: Settings, rule: NullRule) -> TrustReport:
    stars = stars_of(place.path, nulls=nulls, rule=rule, classes=settings.classes)
    catalog = stars.catalog
    result = calibration.calibrate(stars.exposures, stars.null_names, settings)
    columns = _columns(stars, result)
    listed = stars.listed.to_json() if stars.listed else None
    about = {
        "catalog": catalog.attrs["name"],
        "catalog_number": catalog.attrs.get("number", 0),
        "run": catalog.attrs.get("run", ""),
        "numerics": calibration.NUMERICS,
        "rule": None if stars.listed else rule.to_json(),
        "list": listed,
        "found": asdict(stars.counts) if stars.counts else None,
        "summary": result.summary(),
        "level": result.bound.level.tolist(),
        "false": result.bound.false.tolist(),
        "created": now(),
    }
    folder = folder_of(place, str(catalog.attrs["name"]))
    folder.mkdir(parents=True, exist_ok=True)
    store = numbered.put(folder, STEM, CALIBRATION, len(stars.star), lambda name: columns[name], about)
    atomic.sync_folder(folder.parent)
    return TrustReport(str(catalog.attrs["name"]), store, stars.counts, listed, result)


def folder_of(place: Survey, catalog: str) -> Path:
    """Folder of what is known of how far a catalog can be trusted."""
    return place.path / "validation" / catalog.removesuffix(SUFFIX)


def _columns(stars: CatalogStars, result: Calibration) -> dict[str, NDArray[Any]]:
    """Columns of :data:`.CALIBRATION`, rows as the catalog's."""
    rows = len(stars.star)
    column = {name: variable.empty((rows,)) for name, variable in CALIBRATION.variables.items()}
    for name in KEYS:
        column[name] = stars.catalog[name].values
    placed = stars.star != NO_STAR
    numbers = np.unique(result.exposures.star)  # the result's stars, in its order
    smallest = np.full(int(stars.star.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, stars.star[placed], column["obsid"][placed])
    column["star"] = np.where(placed, smallest[np.maximum(stars.star, 0)] if len(smallest) else _NO_NAME, _NO_NAME)
    column["presumed_single"] = np.isin(stars.star, stars.nulls) & placed
    column["p_value"][result.exposures.row] = result.exposure_p
    at = places_of(stars.star, numbers)
    known = placed & (at != NOWHERE)
    of_star: dict[str, tuple[NDArray[Any], float]] = {
        "trust_class": (result.group, NO_CLASS),
        "star_visits": (result.visits, 0),
        "star_p_value": (result.p_value, np.nan),
        EXPECTED_FALSE: (result.expected_false, 1.0),
        BOUNDED_FALSE: (result.bounded_false, 1.0),
    }
    for name, (values, missing) in of_star.items():
        column[name] = np.where(known, values[at], missing).astype(column[name].dtype)
    return column


def open_calibrated(survey: str | Path) -> xr.Dataset:
    """Open a survey's current catalog with its calibration: a catalog that answers ``candidates(fdr=0.05)``.

    Parameters
    ----------
    survey
        Folder of the survey.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.schema.CATALOG`, with the columns of
        :data:`twinlines.pipeline.validation.schema.CALIBRATION`.

    Raises
    ------
    CatalogError
        If there is no catalog.
    TrustError
        If this catalog was not calibrated, or is not as it was.

    Examples
    --------
    >>> import twinlines as tw
    >>> tw.open_calibrated("S").sb2.candidates(fdr=0.05)  # doctest: +SKIP
    """
    place, catalog = Survey.at(survey), catalogs.open(survey)
    advice = f"'twinlines calibrate --survey {survey}' calibrates it"
    name = str(catalog.attrs.get("name", ""))

    def none() -> str:
        others = sorted({each.parent.name for each in (place.path / "validation").glob(f"*/{STEM}-*.zarr")})
        known = f" (calibrated are {', '.join(others)})" if others else ""
        return f"the catalog {name} of {survey} is not calibrated{known}; {advice}"

    path, calibrated = numbered.open_newest(
        *(folder_of(place, name), STEM, CALIBRATION),
        none=none,
        again=f"{advice} again",
        refused=TrustError,
    )
    same = calibrated.sizes["exposure"] == catalog.sizes["exposure"] and all(
        np.array_equal(calibrated[key].values, catalog[key].values) for key in KEYS
    )
    if not same or calibrated.attrs.get("run", "") != catalog.attrs.get("run", ""):
        raise TrustError(f"{path} is of other rows than the catalog {name} has now; {advice} anew")
    added = {key: calibrated[key] for key in CALIBRATION.variables if key not in KEYS}
    return catalog.assign(added).assign_attrs(calibration=json.dumps(dict(calibrated.attrs)), calibrated_by=path.name)
