"""Rates, operating curves and strata of made-up logits, of which all is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri

from twinlines.models.evaluation import PAPER_FPR
from twinlines.models.vocabulary import ARMS, HEADS
from twinlines.pipeline.evaluation import measures
from twinlines.pipeline.evaluation.measures import FPRS, MARGINALS, PER_ARM, STRATA, Draws, Logits, Truth
from twinlines.pipeline.evaluation.paper import PAPER, paper_fpr, reference

PAIRS = 20_000
SHIFT = {"B": 2.0, "R": 1.5, "J": 3.0}


@pytest.fixture(scope="module")
def truth() -> Truth:
    rng = np.random.default_rng(0)
    label = np.tile(np.array([0, 1], np.int8), (PAIRS, 1))
    names = [name for name in {**MARGINALS, **STRATA} if name not in PER_ARM]
    names += [f"{name}_{arm}" for name in PER_ARM for arm in ARMS]
    parameters = {name: rng.uniform(0.0, 1.0, PAIRS).astype(np.float32) for name in names}
    parameters |= {"snr_B": np.full(PAIRS, 15.0, np.float32), "snr_R": np.full(PAIRS, 35.0, np.float32)}
    return Truth(np.arange(PAIRS), label, np.zeros(PAIRS, np.int8), parameters)


@pytest.fixture(scope="module")
def logits() -> Logits:
    """Normal logits of which binaries' are shifted, two members' alike, at penalties 8 and 32."""
    rng = np.random.default_rng(1)

    def of(head: str) -> NDArray[np.float32]:
        values = rng.standard_normal((1, PAIRS, 2, 1)) + SHIFT[head] * np.arange(2)[:, None]
        return np.broadcast_to(values, (2, PAIRS, 2, 2)).astype(np.float32)

    return Logits((8, 32), {head: of(head) for head in HEADS})


def test_operating_curves_are_the_normal_ones(logits: Logits, truth: Truth) -> None:
    curves = measures.curves(logits, None, truth)
    assert [(curve.verdict, curve.penalty) for curve in curves] == [(head, 8) for head in HEADS]
    for curve in curves:
        assert [point.fpr for point in curve.points] == [fpr for fpr in FPRS if fpr * PAIRS >= 1]
        assert curve.points[0].fpr == 1.0e-4
        for point in curve.points[:-1]:
            assert point.rates.fpr.value == pytest.approx(point.fpr, abs=1.0 / PAIRS)
            assert point.rates.fpr.value <= point.fpr
            if point.rates.fpr.count > 100:
                expected = ndtr(SHIFT[curve.verdict] + ndtri(point.fpr))
                assert point.rates.tpr.value == pytest.approx(expected, abs=0.05)
                assert point.threshold == pytest.approx(expit(-ndtri(point.fpr)), abs=0.05)
        values = [point.rates.tpr.value for point in curve.points]
        assert values == sorted(values)
        assert curve.points[-1].fpr == 1.0
        assert values[-1] == pytest.approx(1.0, abs=1e-3)


def test_few_single_stars_say_less(logits: Logits, truth: Truth) -> None:
    few = Truth(truth.rows[:50], truth.label[:50], truth.population[:50], truth.parameters)
    short = Logits(logits.penalties, {head: values[:, :50] for head, values in logits.values.items()})
    assert measures.curves(short, None, few)[0].points[0].fpr == pytest.approx(0.02, rel=0.3)
    none = Truth(few.rows, np.zeros((50, 2), np.int8), few.population, truth.parameters)
    assert all(curve.points == () for curve in measures.curves(short, None, none))
    assert measures.operating(short, none) == ()


def test_strata_hold_all_binaries_at_one_threshold(logits: Logits, truth: Truth) -> None:
    rows = measures.operating(logits, truth)
    assert {row.head: row.point.fpr for row in rows} == PAPER_FPR
    for row in rows:
        expected = ndtr(SHIFT[row.head] + ndtri(row.point.fpr))
        assert row.point.rates.tpr.value == pytest.approx(expected, abs=0.05)
        assert [stratum.parameter for stratum in row.strata] == list(STRATA)
        for stratum in row.strata:
            assert sum(part.rate.trials for part in stratum.bins) == PAIRS
            assert sum(part.rate.count for part in stratum.bins) == row.point.rates.tpr.count
    # S/N is the arm's, and of both arms their mean: 15, 35 and 25.
    filled = {row.head: next(part.start for part in row.strata[2].bins if part.rate.trials == PAIRS) for row in rows}
    assert filled == {"B": 10.0, "R": 20.0, "J": 20.0}
    assert truth.of("snr", "J")[0] == 25.0


def test_rules_are_of_lowest_and_median_values(truth: Truth) -> None:
    rng = np.random.default_rng(2)
    lowest, median = ({head: rng.random((100, 2, 2), np.float32) for head in HEADS} for _ in range(2))
    draws = Draws((8, 16), lowest, median)
    rows = measures.rules(draws, truth, {"paper": 0.5, "joint": 0.9, "joint p0": 0.2}, 0.02)
    called = {
        "paper": (lowest["B"] > 0.5) & (lowest["R"] > 0.5),
        "joint": median["J"] > 0.9,
        "joint p0": lowest["J"] > 0.2,
    }
    assert [(row.rule, row.penalty) for row in rows] == [(rule, penalty) for rule in called for penalty in (8, 16)]
    for row in rows:
        positive = called[row.rule][..., (8, 16).index(row.penalty)]
        assert (row.rates.fpr.count, row.rates.tpr.count) == tuple(positive.sum(axis=0))
        assert (row.rates.fpr.trials, row.rates.tpr.trials) == (100, 100)


def test_a_rule_s_curve_is_that_of_its_threshold(logits: Logits, truth: Truth) -> None:
    rng = np.random.default_rng(3)
    values = {head: rng.random((100, 2, 2), np.float32) for head in HEADS}
    curves = measures.curves(logits, Draws(logits.penalties, values, values), truth)
    assert [curve.verdict for curve in curves] == [*HEADS, "paper", "joint", "joint p0"]
    paper = np.minimum(values["B"], values["R"])[..., 0]
    for point in curves[3].points:
        assert point.rates.fpr.trials == 100
        assert point.rates.tpr.count == (paper[:, 1] > point.threshold).sum()
        assert point.rates.fpr.count == (paper[:, 0] > point.threshold).sum()


def test_the_paper_s_table_and_its_penalty() -> None:
    assert set(PAPER) == set(ARMS)
    for rows in PAPER.values():
        assert list(rows) == [2**power for power in range(10)]
        assert list(rows.values()) == sorted(rows.values(), reverse=True)  # both rates fall with the penalty
    assert reference([1, 8, 16, 64]) == 16
    assert reference([1, 64]) == 64
    assert (paper_fpr("R", 16), paper_fpr("J", 15), paper_fpr("B", 9)) == (0.00162, 0.001275, 0.00414)
