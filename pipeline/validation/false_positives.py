"""How often presumed single stars are taken for binaries by a candidates' rule, by class of S/N and type."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.catalog.questions import Rule
from twinlines.pipeline.validation.intervals import CONFIDENCE, ExactRate, clustered_rate, rate_of
from twinlines.pipeline.validation.trust.classes import Classes, TrustError
from twinlines.pipeline.validation.trust.nulls import NullCounts, NullRule
from twinlines.pipeline.validation.trust.survey import stars_of


@dataclass(frozen=True)
class ClassRates:
    """False positives of one class."""

    label: str
    """Which."""
    stars: int
    """Null stars with an exposure of the class."""
    exposures: ExactRate
    """Of exposures; its interval knows that those of one star are alike."""
    any_exposure: ExactRate
    """Of stars: those of which at least one exposure is a candidate."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        rates = {name: getattr(self, name).to_json() for name in ("exposures", "any_exposure")}
        return {"class": self.label, "stars": self.stars, **rates}


@dataclass(frozen=True)
class NullReport:
    """False positives of a rule on presumed single stars."""

    catalog: str
    """Name of the catalog."""
    rule: str
    """The rule."""
    nulls: int
    """Presumed single stars."""
    counts: NullCounts | None
    """How they were found; None: by a list."""
    confidence: float
    """Of the intervals."""
    whole: ClassRates
    """All classes together."""
    classes: tuple[ClassRates, ...]
    """Classes with a null."""
    worst: str | None
    """The class that is worst for certain: whose rate of exposures has the highest lower end; None where no exposure of
    a null was a candidate."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {
            "catalog": self.catalog,
            "rule": self.rule,
            "nulls": self.nulls,
            "found": asdict(self.counts) if self.counts else None,
            "confidence": self.confidence,
            "all": self.whole.to_json(),
            "classes": [one.to_json() for one in self.classes],
            "worst": self.worst,
        }


def false_positives(
    survey: str | Path,
    *,
    nulls: str | Path | None = None,
    candidates: Rule = "joint",
    classes: Classes | None = None,
    rule: NullRule | None = None,
    confidence: float = CONFIDENCE,
) -> NullReport:
    """Measure how often a rule takes presumed single stars of a survey for binaries.

    Parameters
    ----------
    survey
        Folder of the survey.
    nulls
        A list of presumed single stars; None: the survey's own.
    candidates
        The candidates' rule.
    classes
        Where classes end.
    rule
        What the survey's own single stars must show.
    confidence
        Of the intervals.

    Raises
    ------
    CatalogError
        If there is no catalog.
    TrustError
        If it has no presumed single star, or the list cannot be used.
    """
    classes = classes or Classes()
    stars = stars_of(survey, nulls=nulls, rule=rule, classes=classes)
    exposures = stars.exposures
    mine = np.isin(exposures.star, stars.nulls)
    if not mine.any():
        raise TrustError(
            f"the catalog has no star that can be presumed single ({said(stars.counts)}); give a list (--nulls), or "
            "ask less of them (--nights)"
        )
    happened = stars.catalog.sb2.is_candidate(rule=candidates)[exposures.row][mine]
    star, group = exposures.star[mine], classes.of(exposures.snr[mine], exposures.teff[mine])
    rates = [
        _rates(classes.label(number), happened[group == number], star[group == number], confidence)
        for number in range(len(classes))
        if (group == number).any()
    ]
    return NullReport(
        catalog=str(stars.catalog.attrs["name"]),
        rule=candidates,
        nulls=len(np.unique(star)),
        counts=stars.counts,
        confidence=confidence,
        whole=_rates("all", happened, star, confidence),
        classes=tuple(rates),
        worst=_worst(rates),
    )


def _worst(rates: list[ClassRates]) -> str | None:
    flagged = [one for one in rates if one.exposures.count]
    return max(flagged, key=lambda one: (one.exposures.low, one.exposures.value)).label if flagged else None


def _rates(label: str, happened: NDArray[np.bool_], star: NDArray[np.int64], confidence: float) -> ClassRates:
    stars = len(np.unique(star))
    flagged = len(np.unique(star[happened]))
    return ClassRates(label, stars, clustered_rate(happened, star, confidence), rate_of(flagged, stars, confidence))


def said(counts: NullCounts | None) -> str:
    """How many stars passed each test, in words."""
    if counts is None:
        return "by the list"
    return (
        f"of {counts.stars} stars {counts.nights} have nights enough, {counts.constant} of them a constant velocity, "
        f"{counts.narrow} of these narrow lines"
    )
