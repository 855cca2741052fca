"""Every star of a catalog in a row: where, when and how often it was observed, and what all its exposures say.

Vectorised over stars: millions of exposures take seconds. What only fits of two stars tell is of few stars, and comes
from :mod:`twinlines.pipeline.binaries.sources.source`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.evidence.evidence import Evidence
from twinlines.pipeline.binaries.schema import SOURCES, FitQuality
from twinlines.pipeline.sky import unit_vectors

Columns = dict[str, NDArray[Any]]

_OF_EVIDENCE = frozenset(item.name for item in fields(Evidence))


def summaries(catalog: xr.Dataset, star: NDArray[np.int64], stars: int) -> Columns:
    """Where, when and how often each star was observed.

    Parameters
    ----------
    catalog
        Rows of :data:`twinlines.pipeline.schema.CATALOG`.
    star
        (exposure,) star of each, 0 to ``stars`` - 1; negative: of no star.
    stars
        Number of stars; each has an exposure.

    Returns
    -------
    dict of arrays, shape (stars,)
        Columns of :data:`twinlines.pipeline.binaries.schema.SOURCES`.
    """
    order = np.argsort(star, kind="stable")
    order = order[np.searchsorted(star[order], 0) :]
    of = star[order]
    begin = np.flatnonzero(np.r_[True, of[1:] != of[:-1]][: len(of)])

    def each(function: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(function.reduceat(values[order], begin) if stars else values[:0])

    x, y, z = (each(np.add, axis) for axis in unit_vectors(catalog["ra"].values, catalog["dec"].values).T)
    judged = np.all([np.isfinite(catalog[f"rv_obs_{arm}"].values) for arm in ARM_NAMES], axis=0)
    time = catalog["bjdmid"].values
    return {
        "obsid": each(np.minimum, catalog["obsid"].values),
        "ra": np.degrees(np.arctan2(y, x)) % 360.0,
        "dec": np.degrees(np.arctan2(z, np.hypot(x, y))),
        "epochs": each(np.add, np.ones(len(star), np.int32)),
        "epochs_both": each(np.add, judged.astype(np.int32)),
        "bjd_first": each(np.fmin, time),
        "bjd_last": each(np.fmax, time),
        "best_probability": each(np.fmax, catalog.sb2.probability("J").values),
    }


def of_fits(rows: xr.Dataset, star: NDArray[np.int64], stars: int) -> Columns:
    """What the fits of some exposures, that are all of theirs, add to stars.

    Parameters
    ----------
    rows
        Rows of a catalog with their fits.
    star
        (exposure,) star of each; negative: of no star.
    stars
        Number of stars.
    """
    fitted = ((rows["fit_quality"].values & FitQuality.NO_SPECTRUM) == 0) & (star >= 0)
    mine, gain = star[fitted], np.nan_to_num(rows["delta_chi2_diluted"].values[fitted].astype(np.float64))
    return {
        "epochs_fitted": np.bincount(mine, minlength=stars).astype(np.int32),
        "delta_chi2_sum": np.bincount(mine, gain, minlength=stars),
    }


@dataclass(frozen=True)
class AllStars:
    """All stars of a catalog: those that show two sets of lines first, then the likeliest double-lined binaries."""

    every: Columns
    """Columns of all stars, by number."""
    evidence: Evidence
    """What their exposures say."""
    double: xr.Dataset
    """Rows of :data:`twinlines.pipeline.binaries.schema.SOURCES` of those that show two sets of lines."""
    star: NDArray[np.int64]
    """(source,) their numbers."""
    order: NDArray[np.int64]
    """Numbers of all stars, in the table's order."""

    @classmethod
    def of(cls, every: Columns, evidence: Evidence, double: xr.Dataset, star: NDArray[np.int64]) -> AllStars:
        """Put stars in order."""
        rest = np.ones(len(every["obsid"]), bool)
        rest[star] = False
        others = np.flatnonzero(rest)
        others = others[np.lexsort((every["obsid"][others], -evidence.sb2_probability[others]))]
        return cls(every, evidence, double, star, np.concatenate([star, others]))

    def __len__(self) -> int:
        """Number of stars."""
        return len(self.order)

    def column(self, name: str) -> NDArray[Any]:
        """One column of :data:`twinlines.pipeline.binaries.schema.SOURCES`."""
        variable = SOURCES.variables[name]
        if name in self.every or name in _OF_EVIDENCE:
            values = self.every[name] if name in self.every else getattr(self.evidence, name)
            return np.asarray(values[self.order], variable.dtype)
        column: NDArray[Any] = variable.empty((len(self),))
        column[: len(self.star)] = self.double[name].values
        return column
