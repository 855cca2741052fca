"""What changed between two catalogs of a survey: rows that are new, gone or changed, and probabilities that crossed.

Columns are read one at a time; two catalogs of six million rows need some hundred megabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.catalog.questions import RULES, Rule
from twinlines.pipeline.schema import JOINT
from twinlines.pipeline.survey.folder import SUFFIX


@dataclass(frozen=True)
class Crossing:
    """A probability that is above the threshold in one catalog and not in the other."""

    obsid: int
    """Observation identifier."""
    lmjm: int
    """Local modified Julian minute."""
    head: str
    """"B" or "R", or "J" of both arms together."""
    before: float | None
    """Probability in the older catalog; None where it has none."""
    after: float | None
    """Probability in the newer catalog."""
    cause: str
    """"data" if the exposure's content changed, "run" if weights, parameters or code did."""


@dataclass(frozen=True)
class CatalogDiff:
    """How one catalog differs from another; rows are matched by (obsid, lmjm)."""

    old: str
    """Name of the older catalog."""
    new: str
    """Name of the newer one."""
    recipe: dict[str, tuple[Any, Any]]
    """Weights, parameters or numerics, where they differ: old and new."""
    rows_old: int
    """Rows of the older catalog."""
    rows_new: int
    """Rows of the newer one."""
    added: int
    """Rows that only the newer one has."""
    gone: int
    """Rows that only the older one has."""
    changed: int
    """Rows of both, whose content differs."""
    recomputed: int
    """Rows of both, of equal content, that runs of different weights, parameters or numerics computed."""
    same: int
    """Rows of both, of equal content, from one run."""
    candidates_gained: int
    """Exposures of both that are candidates in the newer catalog only."""
    candidates_lost: int
    """Exposures of both that are candidates in the older catalog only."""
    rule: Rule
    """The candidates' rule: "joint" or "paper"."""
    threshold: float
    """What a probability must be above."""
    penalty: int
    """Penalty of the probabilities."""
    percentile: int
    """Percentile of the probabilities."""
    crossings: tuple[Crossing, ...]
    """Probabilities of rows of both that crossed the threshold, by key and verdict."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {**vars(self), "crossings": [vars(crossing) for crossing in self.crossings]}


def diff(
    survey: Path,
    old: str,
    new: str,
    *,
    rule: Rule | None = None,
    penalty: int = 16,
    percentile: int | None = None,
    threshold: float | None = None,
) -> CatalogDiff:
    """Compare two catalogs of a survey.

    Parameters
    ----------
    survey
        Folder of the survey.
    old, new
        Each a release, or the name of a catalog.
    rule
        The candidates' rule; by default the joint one, or the paper's if a catalog has no verdict of both arms.
    penalty, percentile, threshold
        Which probabilities are looked at, and what they must be above; the defaults are the rule's.

    Raises
    ------
    CatalogError
        If there is no such catalog, penalty or percentile.
    """
    before, after = _open(survey, old), _open(survey, new)
    if rule is None:
        rule = "joint" if all(rows.sb2.has(JOINT, penalty) for rows in (before, after)) else "paper"
    percentile = RULES[rule].percentile if percentile is None else percentile
    threshold = RULES[rule].threshold if threshold is None else threshold
    rows_before, rows_after = _matched(before, after)
    matched = ((before, rows_before), (after, rows_after))
    changed = before["content_hash"].values[rows_before] != after["content_hash"].values[rows_after]
    obsid, lmjm = after["obsid"].values, after["lmjm"].values
    one_run = before.attrs.get("run") == after.attrs.get("run")
    crossings: list[Crossing] = []
    for head in RULES[rule].heads:
        values = [
            catalog_rows.sb2.probability(head, penalty=penalty, percentile=percentile).values[rows].astype(np.float64)
            for catalog_rows, rows in matched
        ]
        for row in np.flatnonzero((values[0] > threshold) != (values[1] > threshold)).tolist():
            place = rows_after[row]
            crossings.append(
                Crossing(
                    int(obsid[place]),
                    int(lmjm[place]),
                    head,
                    _number(values[0][row]),
                    _number(values[1][row]),
                    "data" if changed[row] else "run",
                )
            )
    asked = {"rule": rule, "penalty": penalty, "percentile": percentile, "threshold": threshold}
    chosen = [catalog_rows.sb2.is_candidate(**asked)[rows] for catalog_rows, rows in matched]
    both, differ = len(rows_before), int(np.sum(changed))
    return CatalogDiff(
        old=str(before.attrs.get("name", old)),
        new=str(after.attrs.get("name", new)),
        recipe={
            name: (before.attrs.get(name), after.attrs.get(name))
            for name in ("weights_digest", "parameters", "numerics")
            if before.attrs.get(name) != after.attrs.get(name)
        },
        rows_old=before.sizes["exposure"],
        rows_new=after.sizes["exposure"],
        added=after.sizes["exposure"] - both,
        gone=before.sizes["exposure"] - both,
        changed=differ,
        recomputed=0 if one_run else both - differ,
        same=both - differ if one_run else 0,
        candidates_gained=int(np.sum(chosen[1] & ~chosen[0])),
        candidates_lost=int(np.sum(chosen[0] & ~chosen[1])),
        rule=rule,
        threshold=threshold,
        penalty=penalty,
        percentile=percentile,
        crossings=tuple(sorted(crossings, key=lambda crossing: (crossing.obsid, crossing.lmjm, crossing.head))),
    )


def _open(survey: Path, name: str) -> xr.Dataset:
    if name.endswith(SUFFIX):
        return catalog.open(survey, name)
    return catalog.open(survey, release=name)


def _number(probability: float) -> float | None:
    return None if np.isnan(probability) else float(probability)


def _matched(before: xr.Dataset, after: xr.Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the two catalogs that have one key, pair by pair."""
    obsid = np.concatenate([rows["obsid"].values for rows in (before, after)])
    lmjm = np.concatenate([rows["lmjm"].values for rows in (before, after)])
    order = np.lexsort((lmjm, obsid))  # stable: the older catalog's row stands first
    same = (obsid[order][1:] == obsid[order][:-1]) & (lmjm[order][1:] == lmjm[order][:-1])
    place = np.flatnonzero(same)
    return order[place], order[place + 1] - before.sizes["exposure"]
