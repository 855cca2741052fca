"""The candidates' rules: which exposures are of an SB2 candidate, by columns of a block of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.catalog.blockwise import Columns
from twinlines.pipeline.catalog.errors import CatalogError
from twinlines.pipeline.schema import JOINT, MAXIMUM_BAD_PIXELS, Quality

MAXIMUM_COLOUR = 2.5
"""A candidate whose (G_BP - G_RP)_0 is known is bluer than this, mag (Zhang et al. 2022, section 4.5)."""

JOINT_THRESHOLD = 0.5
"""Least median of the probability by both arms together, penalty 16, of a candidate."""

Rule = Literal["joint", "paper"]
"""Names of the candidates' rules."""


class _Standard(NamedTuple):
    """What a rule looks at, if nothing else is said."""

    heads: tuple[str, ...]
    percentile: int
    threshold: float


RULES: Mapping[str, _Standard] = {
    "joint": _Standard((JOINT,), 50, JOINT_THRESHOLD),
    "paper": _Standard(ARM_NAMES, 0, 0.5),
}
"""The candidates' rules."""


@dataclass(frozen=True)
class Criterion:
    """A rule with its numbers."""

    rule: Rule
    """Its name."""
    penalty: int
    """Penalty of the networks."""
    percentile: int
    """Which percentile of the probability counts."""
    place: int
    """Where that is among those that the columns have."""
    threshold: float
    """What it must be above."""
    arms: Literal["both", "any"]
    """Of the paper's rule: whether both arms must agree."""
    unfamiliar: bool
    """Of the joint rule: whether spectra count that the library does not know."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Verdicts that count: "B" and "R", or "J"."""
        return RULES[self.rule].heads

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that decide."""
        quality = [f"quality_{arm}" for arm in ARM_NAMES] if self.rule == "joint" and not self.unfamiliar else []
        return (
            *(f"pb_pct_{head}_{self.penalty}" for head in self.heads),
            *(f"npixbad_{arm}" for arm in ARM_NAMES),
            "bprp0",
            *quality,
        )

    def judge(self, columns: Columns) -> NDArray[np.uint8]:
        """Bits of each row, shape (row,): 1 for a candidate; 2, 4 for a verdict that is there, by the heads' order."""
        clean = {arm: columns[f"npixbad_{arm}"] < MAXIMUM_BAD_PIXELS for arm in ARM_NAMES}
        agreed, bits = [], np.zeros(len(columns["bprp0"]), np.uint8)
        for number, head in enumerate(self.heads):
            probability = columns[f"pb_pct_{head}_{self.penalty}"][:, self.place]
            bits |= np.isfinite(probability).astype(np.uint8) << (number + 1)
            arms = [clean[arm] for arm in ARM_NAMES if head in (arm, JOINT)]
            agreed.append((probability > self.threshold) & np.all(arms, axis=0))
        chosen = np.any(agreed, axis=0) if self.arms == "any" else np.all(agreed, axis=0)
        chosen &= ~(columns["bprp0"] >= MAXIMUM_COLOUR)  # NaN, an unknown colour, passes
        if self.rule == "joint" and not self.unfamiliar:
            chosen &= ~unfamiliar_rows(columns)
        return np.asarray(bits | chosen, np.uint8)


UNFAMILIAR_COLUMNS = tuple(f"quality_{arm}" for arm in ARM_NAMES)
"""Columns that say whether the library knows a spectrum."""


def unfamiliar_rows(columns: Columns) -> NDArray[np.bool_]:
    """Whether an arm of each row is unlike any star, or two, of the library, shape (row,)."""
    bits = [columns[name] for name in UNFAMILIAR_COLUMNS]
    return np.asarray(np.any([(mine & Quality.UNFAMILIAR) > 0 for mine in bits], axis=0), np.bool_)


def asked(
    rule: Rule,
    penalty: int,
    percentile: int | None,
    threshold: float | None,
    arms: Literal["both", "any"],
    unfamiliar: bool,
    percentiles: tuple[int, ...],
) -> Criterion:
    """A rule with its standard numbers where none are given; ``percentiles`` are those that the columns have.

    Raises
    ------
    CatalogError
        If ``threshold`` is no probability, or ``rule`` or ``arms`` is none of the two.
    """
    if rule not in RULES:
        raise CatalogError(f"rule is {rule!r}; give 'joint' (both arms together) or 'paper' (each arm by itself)")
    if arms not in ("both", "any"):
        raise CatalogError(f"arms is {arms!r}; give 'both' (arms must agree) or 'any' (one is enough)")
    if rule == "joint" and arms == "any":
        raise CatalogError("the joint rule judges both arms together; arms='any' goes with rule='paper'")
    standard = RULES[rule]
    percentile = standard.percentile if percentile is None else percentile
    threshold = standard.threshold if threshold is None else threshold
    if not 0.0 <= threshold <= 1.0:
        raise CatalogError(f"the threshold is {threshold}; give a probability, 0 to 1")
    place = percentiles.index(percentile) if percentile in percentiles else -1
    return Criterion(rule, penalty, percentile, place, threshold, arms, unfamiliar)
