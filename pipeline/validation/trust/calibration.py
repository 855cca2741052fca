"""A catalog's exposures and its presumed single stars become p-values, bounds and a prevalence: a pure function.

Stars, not exposures, are what is tested: exposures of one star are no independent trials.

Classes of like S/N and type, and of the same number of exposures, are *cells*. Scores are measured from the middle of
their cell in units of its spread, both by all stars of the cell, nulls and others alike: so single stars of a cell stay
exchangeable with its nulls (Marandon et al. 2024, AdaDetect), and cells can be compared. Each null then counts as many
times as there are stars for each null in its cell, so that the nulls together are mixed as the stars are (weighted
conformal p-values, Tibshirani et al. 2019). A p-value of a class by itself would need as many nulls in each class as
this one needs in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.validation.trust import bounds, conformal, prevalence, scores
from twinlines.pipeline.validation.trust.bounds import Bound
from twinlines.pipeline.validation.trust.classes import NO_CLASS, Classes, TrustError
from twinlines.pipeline.validation.trust.prevalence import Prevalence
from twinlines.pipeline.validation.trust.scores import Exposures, Visits

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

MOST_BURDEN = 4.0
"""Stars for each null of a class, over those of all classes, at most."""

NUMERICS = 1
"""Numerical version: raised with every change that alters a result."""


@dataclass(frozen=True)
class Settings:
    """How a catalog is calibrated."""

    classes: Classes = field(default_factory=Classes)
    """Where classes end."""
    least_nulls: int = 20
    """Fewest null stars of a class; stars of a class that has fewer get no p-value."""
    confidence: float = 0.95
    """Chance with which bounds, and the prevalence's interval, hold."""
    seed: int = 0
    """Seed of which exposures of a star are scored, and of simulated surveys."""

    def __post_init__(self) -> None:
        if self.least_nulls < 2:
            raise TrustError(f"least_nulls is {self.least_nulls}; a class needs two nulls or more")
        if not 0.5 <= self.confidence <= 0.99:
            raise TrustError(f"the confidence is {self.confidence}; give 0.5 to 0.99")

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class ClassCount:
    """One class of stars."""

    label: str
    """Which."""
    nulls: int
    """Null stars with an exposure of the class."""
    stars: int
    """Other stars that were tested in it."""
    untested: int
    """Other stars that belong to it and have no p-value, as it has too few nulls."""


@dataclass(frozen=True)
class Calibration:
    """What the nulls say of a catalog; arrays of shape (star,) unless said otherwise."""

    settings: Settings
    """How it was made."""
    exposures: Exposures
    """The exposures that count, (exposure,)."""
    exposure_p: Array
    """(exposure,) p-values of single exposures; NaN where there is none."""
    name: Numbers
    """Smallest obsid of each star's exposures that count."""
    null: NDArray[np.bool_]
    """Whether it is a null."""
    visits: Numbers
    """Number of exposures by which it was scored; 0 where it was not tested."""
    group: Numbers
    """Class in which it was tested, or to which it belongs."""
    p_value: Array
    """P-value of each star; NaN where it was not tested."""
    expected_false: Array
    """Least false discovery rate, in the mean over surveys, of a selection that includes the star."""
    bounded_false: Array
    """Least bound of the false proportion, in this survey, of a selection that includes the star."""
    bound: Bound
    """Most singles below any threshold."""
    prevalence: Prevalence
    """What part of tested stars is not single."""
    equal_nulls: int
    """Nulls of equal weight that bound as well as these: no p-value is below 1 / (1 + this)."""
    classes: tuple[ClassCount, ...]
    """Classes with a star."""

    @property
    def tested(self) -> NDArray[np.bool_]:
        """Whether a star has a p-value."""
        return np.isfinite(self.p_value)

    def summary(self) -> dict[str, Any]:
        """What a user is told, as a JSON object."""
        return {
            "settings": self.settings.to_json(),
            "nulls": int(self.null.sum()),
            "stars": int((~self.null).sum()),
            "tested": int(self.tested.sum()),
            "equal_nulls": self.equal_nulls,
            "prevalence": self.prevalence.to_json(),
            "classes": [asdict(one) for one in self.classes],
        }


def calibrate(exposures: Exposures, null_names: NDArray[np.int64], settings: Settings | None = None) -> Calibration:
    """Compare all stars with the nulls of their class and number of exposures.

    Parameters
    ----------
    exposures
        Exposures of the catalog that can be judged.
    null_names
        Names of the presumed single stars (:attr:`.Exposures.name`).
    settings
        How.

    Raises
    ------
    TrustError
        If no class has nulls enough; says how many there are.
    """
    settings = settings or Settings()
    first = exposures.first
    name = exposures.name[first]
    null = np.isin(name, null_names)
    seen = {number: scores.visits(exposures, number, settings.seed) for number in scores.VISITS}
    groups = {number: settings.classes.of(each.snr, each.teff) for number, each in seen.items()}
    of_class = _nulls_by_class(seen, groups, null, len(settings.classes))
    if not (of_class >= settings.least_nulls).any():
        raise TrustError(_too_few(int(null.sum()), of_class, settings))
    test = _test(seen, groups, of_class, null, settings)
    p_value, tested = test.p_value, np.isfinite(test.p_value)
    rng = np.random.default_rng([settings.seed, NUMERICS])
    level = bounds.levels(test.nulls)
    bound = bounds.bound_of(bounds.simulate(test.nulls, int(tested.sum()), level, rng), level, settings.confidence)
    mine = p_value[tested]
    beyond = np.searchsorted(np.sort(mine), bound.level, side="right")
    share = prevalence.estimate(
        mine,
        test.effective,
        rng,
        at_least=float(np.max(np.maximum(beyond - bound.false, 0)) / len(mine)),
        confidence=settings.confidence,
    )
    singles = min(1.0, prevalence.singles(mine, prevalence.STOREY) / len(mine) + 2.0 / len(mine))
    star = np.cumsum(np.isin(np.arange(len(exposures.star)), first)) - 1
    own_group = settings.classes.of(exposures.snr, exposures.teff)
    return Calibration(
        settings=settings,
        exposures=exposures,
        exposure_p=conformal.of_exposures(exposures.logit, own_group, star, null[star], settings.least_nulls),
        name=name,
        null=null,
        visits=test.visits,
        group=test.group,
        p_value=p_value,
        expected_false=bounds.expected_false(p_value, singles),
        bounded_false=bound.proportions(p_value),
        bound=bound,
        prevalence=share,
        equal_nulls=test.nulls,
        classes=_counts(settings.classes, of_class, test.group, tested, null),
    )


def _nulls_by_class(
    seen: Mapping[int, Visits], groups: Mapping[int, Numbers], null: NDArray[np.bool_], classes: int
) -> Numbers:
    """Null stars by number of exposures and class, (number, class)."""
    counts = np.zeros((len(seen), classes), np.int64)
    for row, (number, each) in enumerate(seen.items()):
        mine = null[each.place] & (groups[number] != NO_CLASS)
        counts[row] = np.bincount(groups[number][mine], minlength=classes)
    return counts


@dataclass(frozen=True)
class _Test:
    """P-values of stars, (star,), and how good the nulls are."""

    p_value: Array
    visits: Numbers
    group: Numbers
    nulls: int
    """Nulls of equal weight that would bound no better: the least number, where the tail is of the scarcest class."""
    effective: float
    """Nulls of equal weight that give the same standard error, on the whole."""


def _test(
    seen: Mapping[int, Visits],
    groups: Mapping[int, Numbers],
    of_class: Numbers,
    null: NDArray[np.bool_],
    settings: Settings,
) -> _Test:
    """Score each star by as many of its exposures as there are nulls for, and rank it among these."""
    chosen, group = _choose(seen, groups, of_class, null, settings)
    relative, weight = np.full(len(null), np.nan), np.zeros(len(null))
    nulls: list[tuple[Array, Array]] = []
    for number, each in seen.items():
        for one in np.unique(group[chosen == number]):
            inside = groups[number] == one
            calibrating = inside & null[each.place]
            tested = inside & (chosen[each.place] == number)
            standard = _standardised(each.score, calibrating | tested)
            relative[each.place[tested]] = standard[tested]
            factor = tested.sum() / calibrating.sum()
            weight[each.place[calibrating]] += factor
            nulls.append((standard[calibrating], np.full(calibrating.sum(), factor)))
    value, part = (np.concatenate(column) for column in zip(*nulls, strict=True))
    heaviest, stars = float(weight.max()), int((chosen > 0).sum())
    p_value = np.full(len(null), np.nan)
    p_value[chosen > 0] = conformal.weighted(value, part, relative[chosen > 0], heaviest)
    effective = weight.sum() ** 2 / np.sum(weight**2)
    return _Test(p_value, chosen, group, max(int(stars / heaviest), 1), float(effective))


def _choose(
    seen: Mapping[int, Visits],
    groups: Mapping[int, Numbers],
    of_class: Numbers,
    null: NDArray[np.bool_],
    settings: Settings,
) -> tuple[Numbers, Numbers]:
    """By how many exposures each star is scored, 0 where it is not, and its class, (star,) each.

    A class that has far fewer nulls for its stars than others would spoil the bounds of all: it is left out.
    """
    enough = (of_class >= settings.least_nulls) & (2 * of_class >= of_class[:1])
    while True:
        chosen, group = np.zeros(len(null), np.int64), np.full(len(null), NO_CLASS, np.int64)
        counts = np.zeros_like(of_class)
        for row, (number, each) in reversed(list(enumerate(seen.items()))):
            mine = groups[number]
            undecided = ~null[each.place] & (chosen[each.place] == 0)
            good = undecided & (mine != NO_CLASS) & enough[row][np.maximum(mine, 0)]
            chosen[each.place[good]] = number
            group[each.place[good]] = mine[good]
            counts[row] = np.bincount(mine[good], minlength=counts.shape[1])
            if number == scores.VISITS[0]:
                group[each.place[undecided & ~good]] = mine[undecided & ~good]
        if not counts.any():
            raise TrustError("no star but the nulls is in a class that has nulls enough; there is nothing to test")
        burden = np.sum(counts / np.maximum(of_class, 1), axis=0)  # stars for each null
        usual = counts.sum() / of_class[0, burden > 0.0].sum()
        if burden.max() <= MOST_BURDEN * usual:
            return chosen, group
        enough[:, burden.argmax()] = False


def _standardised(score: Array, of: NDArray[np.bool_]) -> Array:
    """Scores from the middle of some of them, in units of how far the highest sixth of them is above it."""
    middle, high = np.quantile(score[of], (0.5, 0.84))
    return np.asarray((score - middle) / max(high - middle, 1e-6))


def _too_few(nulls: int, of_class: Numbers, settings: Settings) -> str:
    most = int(of_class[0].max(initial=0))
    where = f" ({settings.classes.label(int(of_class[0].argmax()))})" if most else ""
    return (
        f"too few nulls: there are {nulls} presumed single stars, at most {most} in one class{where}; a class needs "
        f"{settings.least_nulls}. Give a list of single stars (--nulls), "
        "fewer and wider classes (--snr-edges, --teff-edges), or be content with less (--least-nulls)"
    )


def _counts(
    classes: Classes, of_class: Numbers, group: Numbers, tested: NDArray[np.bool_], null: NDArray[np.bool_]
) -> tuple[ClassCount, ...]:
    counted = []
    for number in range(len(classes)):
        mine = (group == number) & ~null
        if of_class[0, number] or mine.any():
            nulls, stars, untested = int(of_class[0, number]), int((mine & tested).sum()), int((mine & ~tested).sum())
            counted.append(ClassCount(classes.label(number), nulls, stars, untested))
    return tuple(counted)
