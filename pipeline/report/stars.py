"""Which stars a report tells of, and what is known of each: candidates, and whatever shows two sets of lines.

Reads what there is: a catalog alone is enough; two-star fits, the table of stars and orbits add to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.binaries.fits.store import FitsError, join, load_fits, shows_two
from twinlines.pipeline.binaries.grouping import NO_STAR, group
from twinlines.pipeline.binaries.schema import FITS, SOURCES
from twinlines.pipeline.binaries.sources.survey import open_sources, scale_of
from twinlines.pipeline.binaries.zeropoints.calibrated import zero_points_of
from twinlines.pipeline.binaries.zeropoints.pairs import on_one_scale
from twinlines.pipeline.lookup import NOWHERE, places_of
from twinlines.pipeline.schema import JOINT

NAMES = (
    "sb2_probability",
    "epochs_double",
    "epochs_moonlight",
    "nights",
    "separation_largest",
    "wilson_mass_ratio",
    "wilson_mass_ratio_error",
    "period",
    "mode_probability",
    "eccentricity",
    "semi_amplitude_primary",
    "semi_amplitude_secondary",
)
"""Columns of the table of stars that a report lists, where the table has them."""


@dataclass(frozen=True, eq=False)
class Listed:
    """Stars of a survey that may be double-lined binaries, the likeliest first."""

    catalog: xr.Dataset
    """The survey's catalog, lazy."""
    rows: tuple[NDArray[np.int64], ...]
    """Rows of the catalog that are of each star, by time."""
    obsid: NDArray[np.int64]
    """(star,) the smallest obsid of each."""
    best: NDArray[np.float64]
    """(star,) largest median binary probability by both arms of its exposures."""
    table: xr.Dataset | None
    """Rows of :data:`twinlines.pipeline.binaries.schema.SOURCES` of these stars, in their order; NaN where a star has
    none. None: the survey has no such table."""
    fits: xr.Dataset | None
    """All two-star fits of the survey; None: it has none."""
    zero_points: xr.Dataset | None
    """Zero points with which the stars were made, or, of a survey without stars, the catalog's; None: none."""
    candidates: int
    """Exposures that are candidates."""
    left_out: int
    """Stars that are as likely but beyond the number asked for."""

    def __len__(self) -> int:
        return len(self.obsid)

    def value(self, star: int, name: str) -> float:
        """A number of the table of stars; NaN where there is none."""
        if self.table is None or name not in self.table:
            return float("nan")
        return float(self.table[name].values[star])

    def exposures(self, star: int) -> xr.Dataset:
        """Rows of the catalog of one star with the columns of their fits, by time; on one scale, if there is one."""
        rows = self.catalog.isel(exposure=self.rows[star]).load()
        fits = FITS.dataset({}, 0) if self.fits is None else self.fits
        return on_one_scale(join(rows, fits), self.zero_points)


def listed(catalog: xr.Dataset, survey: Path, most: int) -> Listed:
    """Find the stars of a catalog of which a report tells.

    A star is listed that has a candidate, by the joint rule (by the paper's where the ensemble judged each arm by
    itself), or a fit that shows two stars. The surest come first: by the probability over all exposures where there is
    one, then by how much better two stars explain the exposures than one, then by the best exposure.

    Parameters
    ----------
    catalog
        What :func:`twinlines.open_catalog` returned.
    survey
        Folder of the survey.
    most
        Stars that are listed at most.
    """
    judged = catalog.sb2.has(JOINT, 16)
    rule = "joint" if judged else "paper"
    chosen = catalog.sb2.is_candidate(rule=rule, unfamiliar=True) if catalog.sizes["exposure"] else np.zeros(0, bool)
    candidates = int(chosen.sum())
    probability = catalog.sb2.probability(JOINT if judged else "B").values.astype(np.float64)
    fits, table = _there(survey)
    star = group(catalog["ra"].values, catalog["dec"].values)
    gain = np.zeros(len(star))
    if fits is not None:
        keys = catalog[["obsid", "lmjm", "content_hash"]].load()
        joined = join(keys, fits)
        double = shows_two(joined)
        chosen = chosen | double
        gain = np.where(double, np.nan_to_num(joined["delta_chi2_diluted"].values), 0.0)
    numbers = np.unique(star[chosen & (star != NO_STAR)])
    members = np.flatnonzero(np.isin(star, numbers))
    place = np.searchsorted(numbers, star[members])
    obsid = np.full(len(numbers), np.iinfo(np.int64).max)
    np.minimum.at(obsid, place, catalog["obsid"].values[members])
    best, total = np.zeros(len(numbers)), np.zeros(len(numbers))
    np.fmax.at(best, place, np.nan_to_num(probability[members]))
    np.add.at(total, place, gain[members])
    matched = None if table is None else _matched(table, obsid)
    whole = np.zeros(len(numbers))
    if matched is not None and "sb2_probability" in matched:
        whole = np.nan_to_num(matched["sb2_probability"].values)
    # What is surest beyond counting is told apart by the fits.
    order = np.lexsort((obsid, -best, -total, -np.round(whole, 3)))
    kept = order[:most]
    time = catalog["bjdmid"].values[members]
    sequence = np.lexsort((time, place))
    ends = np.searchsorted(place[sequence], np.arange(len(numbers) + 1))
    rows = tuple(members[sequence[ends[one] : ends[one + 1]]] for one in kept.tolist())
    return Listed(
        catalog=catalog,
        rows=rows,
        obsid=obsid[kept],
        best=best[kept],
        table=None if matched is None else matched.isel(source=kept),
        fits=fits,
        zero_points=zero_points_of(survey, catalog) if table is None else scale_of(survey, table),
        candidates=candidates,
        left_out=len(order) - len(kept),
    )


def _there(survey: Path) -> tuple[xr.Dataset | None, xr.Dataset | None]:
    """The survey's fits, and its table of stars, if it has any."""
    fits: xr.Dataset | None
    table: xr.Dataset | None
    try:
        fits = load_fits(survey)
    except FitsError:
        fits = None
    try:
        table = open_sources(survey)
    except FitsError:
        table = None
    return fits, table


def _matched(table: xr.Dataset, obsid: NDArray[np.int64]) -> xr.Dataset:
    """Rows of a table of stars for some obsids; missing values where it has none."""
    place = places_of(obsid, table["obsid"].values)
    there = place != NOWHERE
    names = [name for name in (*NAMES, "ra", "dec") if name in table and name in SOURCES.variables]
    columns = {}
    for name in names:
        values = SOURCES.variables[name].empty((len(obsid),))
        values[there] = table[name].values[place[there]]
        columns[name] = ("source", values)
    return xr.Dataset(columns)
