"""A catalog at a glance: probabilities against S/N (Figure 7 of the paper), observations of candidates (Figure 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.models.evaluation import Rate, rate
from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.grouping import RADIUS
from twinlines.pipeline.schema import CATALOG_PENALTIES, HEADS, JOINT, PERCENTILES
from twinlines.pipeline.validation.observed import Asked, Observed, observe

Array = NDArray[np.float64]

SNR_EDGES = np.geomspace(5.0, 200.0, 25)
"""Ends of the bins of S/N; the last holds what is above it, too."""

PROBABILITY_EDGES = np.linspace(0.0, 1.0, 26)
"""Ends of the bins of the probability."""

_OFTEN = 6  # observations, on which the paper builds


@dataclass(frozen=True)
class Overview:
    """A catalog at a glance."""

    observed: Observed
    """Its stars, and the rule of candidates."""
    counts: Mapping[tuple[str, int, int], NDArray[np.int64]]
    """(S/N bin, probability bin) exposures, by head, penalty and percentile. S/N is the arm's; for both, the blue's."""
    observations: NDArray[np.int64]
    """(candidate star,) its judged exposures."""
    double: NDArray[np.int64]
    """(candidate star,) those of them that are candidates."""
    fraction: Rate
    """Candidate stars among all that are judged."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        heads = []
        for (head, penalty, percentile), counts in self.counts.items():
            above = counts[:, PROBABILITY_EDGES[:-1] >= 0.5].sum(axis=1)
            heads.append(
                {
                    "head": head,
                    "penalty": penalty,
                    "percentile": percentile,
                    "judged": counts.sum(axis=1),
                    "above_half": above,
                }
            )
        return {
            "rule": self.observed.asked.to_json(),
            "stars_judged": self.fraction.trials,
            "stars_candidates": len(self.observations),
            "exposures_candidates": int(self.double.sum()),
            "fraction": vars(self.fraction),
            "observations": {
                "median": float(np.median(self.observations)) if len(self.observations) else None,
                "median_double": float(np.median(self.double)) if len(self.double) else None,
                "stars_with_6_or_more": int((self.observations >= _OFTEN).sum()),
            },
            "snr_edges": SNR_EDGES,
            "by_snr": heads,
        }


def overview(catalog: xr.Dataset, asked: Asked | None = None, radius: float = RADIUS) -> Overview:
    """Count a catalog's exposures by S/N and probability, and its candidates' observations.

    Parameters
    ----------
    catalog
        The catalog; a column at a time is read.
    asked
        The rule of candidates.
    radius
        Exposures within this angle are of one star, arcsec.

    Raises
    ------
    ValidationError
        If the catalog has no verdict.
    """
    observed = observe(catalog, asked, radius)
    snr: dict[str, Array] = {arm: catalog[f"snr_{arm}"].values.astype(np.float64) for arm in ARM_NAMES}
    snr[JOINT] = snr[ARM_NAMES[0]]
    counts = {}
    for head in HEADS:
        for penalty in CATALOG_PENALTIES:
            if catalog.sb2.has(head, penalty):
                every = catalog[f"pb_pct_{head}_{penalty}"].values
                for at, percentile in enumerate(PERCENTILES):
                    counts[head, penalty, percentile] = _counts(snr[head], every[:, at])
    judged, double = observed.count(observed.judged), observed.count(observed.candidate)
    candidates = double > 0
    return Overview(
        observed=observed,
        counts=counts,
        observations=judged[candidates],
        double=double[candidates],
        fraction=rate(int(candidates.sum()), int((judged > 0).sum())),
    )


def _counts(snr: Array, probability: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    known = np.isfinite(probability) & (snr >= SNR_EDGES[0])
    counts, _, _ = np.histogram2d(
        *(np.minimum(snr[known], SNR_EDGES[-1]), probability[known].astype(np.float64)),
        bins=(SNR_EDGES, PROBABILITY_EDGES),
    )
    return np.asarray(counts, np.int64)
