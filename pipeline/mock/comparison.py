"""A catalog against the truth of the mock release that it was computed from: what was found, missed and made up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from astropy.table import Table
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.catalog.questions import Rule
from twinlines.pipeline.mock.release import TRUNCATED, MockTruth
from twinlines.pipeline.mock.stars import MOCK_KINDS, SB2
from twinlines.pipeline.schema import HEADS, JOINT

SEPARATION_BINS = ((0.0, 50.0), (50.0, 100.0), (100.0, np.inf))
"""Bins of ``|v2 - v1|``, km/s, by which recall is counted."""

_FROM_CATALOG = ("rv_obs", "rv_obs_err", "rv_teff", "ccfmax", "npixbad")


@dataclass(frozen=True)
class Comparison:
    """Truth and catalog, exposure by exposure."""

    exposures: Table
    """The truth's rows with the catalog's columns: ``p0`` and ``p50`` of each arm and of both (``p0_B`` ... ``p50_J``),
    ``rv_obs``, ``rv_obs_err``, ``rv_teff``, ``ccfmax`` and ``npixbad`` of each arm, ``in_catalog``, ``candidate``
    (by both arms together) and ``candidate_paper``. NaN where the catalog has no value."""

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Exposures that have a probability by both arms together."""
        return np.asarray(np.isfinite(self.exposures[f"p50_{JOINT}"].data))

    @property
    def lost(self) -> list[str]:
        """Files that can be read but of which the catalog lacks an exposure; there should be none."""
        missing = ~self.exposures["in_catalog"].data & (self.exposures["defect"].data != TRUNCATED)
        return sorted(set(self.exposures["file"].data[missing].tolist()))

    def recall(self) -> list[dict[str, Any]]:
        """Of the judged exposures of SB2s in each bin of velocity separation, how many are candidates."""
        separation = np.abs(self.exposures["delta_v"].data)
        double = (self.exposures["kind"].data == SB2) & self.judged
        result = []
        for low, high in SEPARATION_BINS:
            rows = double & (separation >= low) & (separation < high)
            name = f"{low:.0f}-{high:.0f}" if np.isfinite(high) else f">{low:.0f}"
            result.append({"separation_kms": name, **self._count(rows)})
        return result

    def alarms(self) -> list[dict[str, Any]]:
        """Of the judged exposures of each kind of star without a second spectrum, how many are candidates."""
        kinds = self.exposures["kind"].data
        return [{"kind": kind, **self._count((kinds == kind) & self.judged)} for kind in MOCK_KINDS if kind != SB2]

    def _count(self, rows: NDArray[np.bool_]) -> dict[str, int]:
        return {
            "exposures": int(rows.sum()),
            "candidates": int((rows & self.exposures["candidate"].data).sum()),
            "by_the_papers_rule": int((rows & self.exposures["candidate_paper"].data).sum()),
        }

    def residuals(self, arm: str) -> NDArray[np.float64]:
        """Measured minus true velocity of stars with one visible component, km/s, shape (exposure,); NaN for others."""
        residual = self.exposures[f"rv_obs_{arm}"].data - self.exposures["v1"].data
        return np.where(self.exposures["kind"].data == SB2, np.nan, residual)

    def velocities(self) -> dict[str, dict[str, float]]:
        """Of each arm: exposures, median and scatter (half of the central 68 %) of residuals and of residual / error.

        All in km/s but the last, which is 1 if the errors are right.
        """
        result: dict[str, dict[str, float]] = {}
        for name in ARM_NAMES:
            residual, error = self.residuals(name), self.exposures[f"rv_obs_err_{name}"].data
            known = np.isfinite(residual)
            if not known.any():
                result[name] = {"exposures": 0}
                continue
            low, middle, high = np.percentile(residual[known], [16.0, 50.0, 84.0])
            low_pull, high_pull = np.percentile(((residual - middle) / error)[known], [16.0, 84.0])
            result[name] = {
                "exposures": int(known.sum()),
                "median_kms": round(float(middle), 3),
                "scatter_kms": round(float(high - low) / 2.0, 3),
                "scatter_over_error": round(float(high_pull - low_pull) / 2.0, 3),
            }
        return result

    def stars(self) -> Table:
        """A row per star: what it is, its exposures, and the verdict.

        The probabilities are medians of the ensemble: of an SB2 in the judged exposure with the widest separation, of
        any other star the highest of its judged exposures.
        """
        table, judged = self.exposures, self.judged
        rows = []
        for star in np.unique(table["star"].data).tolist():
            mine = np.flatnonzero(table["star"].data == star)
            good = mine[judged[mine]]
            kind = str(table["kind"][mine[0]])
            separation = np.abs(table["delta_v"].data[good])
            if kind == SB2:
                shown = good[np.argsort(separation)[-1:]]
            else:
                shown = good[np.argsort(table[f"p50_{JOINT}"].data[good])[-1:]]
            candidates = int(table["candidate"].data[good].sum())
            value = {
                name: float(table[name].data[shown[0]]) if len(shown) else np.nan
                for name in ("snr_B", "snr_R", "p50_B", "p50_R", "p50_J")
            }
            rows.append(
                {
                    "star": star,
                    "kind": kind,
                    "teff1": float(table["teff1"][mine[0]]),
                    "q": float(table["q"][mine[0]]),
                    "light_ratio_R": float(table["light_ratio_R"][mine[0]]),
                    "period": float(table["period"][mine[0]]),
                    "delta_v": float(separation.max()) if kind == SB2 and len(good) else np.nan,
                    **value,
                    "exposures": len(good),
                    "candidates": candidates,
                    "verdict": _verdict(kind, len(good), candidates),
                }
            )
        return Table(rows=rows)


def _verdict(kind: str, judged: int, candidates: int) -> str:
    if judged == 0:
        return "not judged"
    if kind == SB2:
        return "found" if candidates else "missed"
    return "false alarm" if candidates else "rightly single"


def compare(truth: MockTruth, catalog: xr.Dataset, penalty: int = 16) -> Comparison:
    """Find each exposure of the truth in the catalog.

    Parameters
    ----------
    truth
        What was injected.
    catalog
        A catalog, as :func:`twinlines.pipeline.catalog.catalog.open` returns it.
    penalty
        Penalty of the networks whose probabilities are compared.
    """
    table = truth.exposures.copy()
    keys = _keys(table["obsid"].data, table["lmjm"].data)
    row_of = {key: row for row, key in enumerate(_keys(catalog["obsid"].values, catalog["lmjm"].values))}
    known = np.array([key in row_of for key in keys])
    rows = np.array([row_of[key] for key in keys if key in row_of], dtype=np.int64)
    table["in_catalog"] = known
    rules: dict[str, Rule] = {"candidate": "joint", "candidate_paper": "paper"}
    columns = {name: catalog.sb2.is_candidate(rule=rule, penalty=penalty) for name, rule in rules.items()}
    columns |= {f"{name}_{arm}": catalog[f"{name}_{arm}"].values for arm in ARM_NAMES for name in _FROM_CATALOG}
    columns |= {
        f"p{percentile}_{head}": catalog.sb2.probability(head, penalty=penalty, percentile=percentile).values
        for head in HEADS
        for percentile in (0, 50)
    }
    for column, values in columns.items():
        there = np.full(len(keys), False if column in rules else np.nan)
        there[known] = values[rows]
        table[column] = there
    return Comparison(table)


def _keys(obsid: NDArray[Any], lmjm: NDArray[Any]) -> list[tuple[int, int]]:
    return list(zip(obsid.tolist(), lmjm.tolist(), strict=True))


@dataclass(frozen=True)
class BinaryComparison:
    """A star with two sets of lines, and what was injected; NaN where something is not known."""

    obsid: int
    """Smallest obsid of the star."""
    kind: str
    """What the star is."""
    epochs: int
    """Exposures that show two stars, resolved."""
    mass_ratio: float
    """Mass of the fainter star over the brighter's, from all epochs' velocities."""
    mass_ratio_error: float
    """Its standard error."""
    true_mass_ratio: float
    """What was injected."""
    period: float
    """Orbital period, d."""
    period_error: float
    """Its standard error, d."""
    period_probability: float
    """Probability of that period; others may be as good."""
    true_period: float
    """What was injected, d."""
    true_period_probability: float
    """Probability of the solution that has the true period: no half cycle is gained or lost over the exposures; 0 if
    none has it."""


def compare_binaries(truth: MockTruth, sources: xr.Dataset, orbits: xr.Dataset) -> tuple[BinaryComparison, ...]:
    """Stars of a survey beside the truth of its mock release.

    Parameters
    ----------
    truth
        What was injected.
    sources, orbits
        Rows of :data:`twinlines.pipeline.binaries.schema.SOURCES` and of its ``ORBITS``.
    """
    sources = sources.isel(source=np.flatnonzero(sources["epochs_double"].values > 0))
    solution = {name: orbits[name].values for name in ("obsid", "period", "mode_probability")}
    table = truth.exposures
    first = {int(obsid): row for row, obsid in reversed(list(enumerate(table["obsid"].data.tolist())))}
    columns = {name: sources[name].values for name in sources.variables}
    compared = []
    for row, obsid in enumerate(columns["obsid"].tolist()):
        true = table[first[obsid]]
        span = max(float(columns["bjd_last"][row] - columns["bjd_first"][row]), 1.0)
        with np.errstate(invalid="ignore"):
            same = np.abs(1.0 / solution["period"] - 1.0 / float(true["period"])) < 0.5 / span
        mine = (solution["obsid"] == obsid) & np.isfinite(solution["period"])
        compared.append(
            BinaryComparison(
                obsid=obsid,
                kind=str(true["kind"]),
                epochs=int(columns["epochs_double"][row]),
                mass_ratio=float(columns["wilson_mass_ratio"][row]),
                mass_ratio_error=float(columns["wilson_mass_ratio_error"][row]),
                true_mass_ratio=float(true["q"]),
                period=float(columns["period"][row]),
                period_error=float(columns["period_error"][row]),
                period_probability=float(columns["mode_probability"][row]),
                true_period=float(true["period"]),
                true_period_probability=(
                    float(solution["mode_probability"][mine & same].sum()) if mine.any() else float("nan")
                ),
            )
        )
    return tuple(compared)
