"""What a catalog says of its stars: exposures grouped by position, which are judged, and which are candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.grouping import NO_STAR, RADIUS, group
from twinlines.pipeline.catalog.questions import RULES, Rule
from twinlines.pipeline.schema import HEADS


class ValidationError(RuntimeError):
    """A catalog cannot be validated as asked."""


@dataclass(frozen=True)
class Asked:
    """By what rule an exposure is a candidate; see ``candidates`` of a catalog."""

    rule: Rule = "joint"
    """"joint": by both arms together; "paper": by each arm."""
    penalty: int = 16
    """Penalty of the networks."""
    percentile: int | None = None
    """Percentile of the probability; None: the rule's own."""
    threshold: float | None = None
    """What it is to be above; None: the rule's own."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object, with the numbers that count."""
        standard = RULES[self.rule]
        return {
            "rule": self.rule,
            "penalty": self.penalty,
            "percentile": standard.percentile if self.percentile is None else self.percentile,
            "threshold": standard.threshold if self.threshold is None else self.threshold,
        }


@dataclass(frozen=True)
class Observed:
    """A catalog's exposures and stars; arrays of shape (exposure,), or (star,) where it is said."""

    asked: Asked
    """The rule of candidates."""
    obsid: NDArray[np.int64]
    """LAMOST's identifiers."""
    ra: NDArray[np.float64]
    """Right ascension, deg."""
    dec: NDArray[np.float64]
    """Declination, deg."""
    star: NDArray[np.int64]
    """Number of the star, from 0; -1 without a position."""
    judged: NDArray[np.bool_]
    """Whether the rule has its probabilities."""
    candidate: NDArray[np.bool_]
    """Whether it is a candidate."""
    snr: NDArray[np.float64]
    """S/N of the blue arm."""

    @property
    def stars(self) -> int:
        """Number of stars."""
        return int(self.star.max(initial=-1)) + 1

    def count(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(star,) number of its exposures that are chosen."""
        return np.bincount(self.star[chosen & (self.star != NO_STAR)], minlength=self.stars)

    def best(self, values: NDArray[np.floating[Any]], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(star,) largest value over those of its exposures that are chosen; NaN without."""
        largest = np.full(self.stars, -np.inf)
        mine = chosen & (self.star != NO_STAR) & np.isfinite(values)
        np.maximum.at(largest, self.star[mine], values[mine].astype(np.float64))
        return np.where(np.isfinite(largest), largest, np.nan)

    def first_rows(self) -> NDArray[np.int64]:
        """(star,) the first row of each."""
        known = np.flatnonzero(self.star != NO_STAR)
        _, first = np.unique(self.star[known], return_index=True)
        return known[first]


def observe(catalog: xr.Dataset, asked: Asked | None = None, radius: float = RADIUS) -> Observed:
    """Group a catalog's exposures into stars and find its candidates.

    Parameters
    ----------
    catalog
        Rows of :data:`twinlines.pipeline.schema.CATALOG`.
    asked
        The rule of candidates.
    radius
        Exposures within this angle are of one star, arcsec.

    Raises
    ------
    ValidationError
        If the catalog is empty, or no exposure is judged.
    twinlines.pipeline.catalog.errors.CatalogError
        If the catalog has no such probabilities.
    """
    asked = asked or Asked()
    if not catalog.sizes["exposure"]:
        raise ValidationError("the catalog has no exposure; there is nothing to validate")
    said = asked.to_json()
    candidate = catalog.sb2.is_candidate(
        rule=asked.rule, penalty=asked.penalty, percentile=asked.percentile, threshold=asked.threshold
    )
    heads = RULES[asked.rule].heads
    known = [
        np.isfinite(catalog.sb2.probability(head, penalty=asked.penalty, percentile=said["percentile"]).values)
        for head in heads
    ]
    judged = np.all(known, axis=0)
    if not judged.any():
        raise ValidationError(
            f"no exposure of the catalog has a verdict of {' and '.join(heads)} at penalty {asked.penalty}; run the "
            "release, or ask by another rule"
        )
    ra, dec = catalog["ra"].values, catalog["dec"].values
    return Observed(
        asked=asked,
        obsid=catalog["obsid"].values,
        ra=ra,
        dec=dec,
        star=group(ra, dec, radius=radius),
        judged=judged,
        candidate=np.asarray(candidate & judged, np.bool_),
        snr=catalog[f"snr_{ARM_NAMES[0]}"].values.astype(np.float64),
    )


def probabilities(catalog: xr.Dataset, penalty: int, percentile: int) -> dict[str, NDArray[np.float64]]:
    """One percentile of the probability of each head, by its name, shape (exposure,); heads without any left out."""
    return {
        head: catalog.sb2.probability(head, penalty=penalty, percentile=percentile).values.astype(np.float64)
        for head in HEADS
        if catalog.sb2.has(head, penalty)
    }
