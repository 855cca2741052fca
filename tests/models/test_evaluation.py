import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from twinlines.models import checkpoint, evaluation
from twinlines.models.ensemble import Ensemble, EnsembleError
from twinlines.models.evaluation import Rate, Rates, logits_of, rate
from twinlines.models.network import Network
from twinlines.models.pairs import PairArrays
from twinlines.models.vocabulary import HEADS, TEST

LABEL = torch.tensor([[0.0, 1.0]])


def test_rates_are_equations_10_and_11() -> None:
    logits = torch.tensor([[-1.0, 2.0], [0.0, 0.0], [1.0, -3.0], [-2.0, 0.1]])
    label = LABEL.repeat(4, 1)
    assert evaluation.rates(logits, label) == (0.5, 0.25)
    assert evaluation.rates(logits, label, threshold=0.8) == (0.25, 0.0)
    singles = torch.linspace(0, 1, 1000)
    many = torch.stack([singles, singles + 0.5], dim=1)
    assert evaluation.tpr_at(many, LABEL.repeat(1000, 1), 0.1) == pytest.approx(0.6, abs=2e-3)
    assert evaluation.tpr_at(many, LABEL.repeat(1000, 1), 0.0) == pytest.approx(0.5, abs=2e-3)


def test_a_pair_without_a_binary_counts_twice_as_single() -> None:
    logits = torch.tensor([[-1.0, 2.0], [3.0, 1.0]])
    label = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert evaluation.rates(logits, label) == (1.0, pytest.approx(2 / 3))
    assert evaluation.tpr_at(logits, label, 0.0) == 0.0


COUNTS = st.integers(1, 10_000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


@given(COUNTS)
def test_intervals_are_wilson_s(counts: tuple[int, int]) -> None:
    found = rate(*counts)
    theirs = stats.binomtest(*counts).proportion_ci(evaluation.LEVEL, method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@given(COUNTS, st.floats(0.5, 0.999))
def test_intervals_hold_the_estimate_and_widen_with_the_level(counts: tuple[int, int], level: float) -> None:
    found, wider = rate(*counts, level), rate(*counts, min(level + 1e-3, 0.9999))
    assert 0.0 <= wider.low <= found.low <= found.value <= found.high <= wider.high <= 1.0


@given(st.floats(0.0, 999.0), st.floats(0.0, 1.0))
def test_intervals_grow_with_counts_that_need_not_be_whole(count: float, more: float) -> None:
    less, greater = rate(count, 1000), rate(count + more, 1000)
    assert less.low <= greater.low + 1e-15
    assert less.high <= greater.high + 1e-15


def test_no_trial_says_nothing_and_impossible_counts_are_refused() -> None:
    nothing = rate(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    assert rate(0, 20_000).high == pytest.approx(1.92e-4, rel=0.01)
    with pytest.raises(ValueError, match="3 successes of 2 trials"):
        rate(3, 2)


def test_mean_rates_over_members_are_one_trial_a_spectrum() -> None:
    logits = np.array([[[-1.0, 2.0], [0.5, -1.0]], [[-1.0, 1.0], [-2.0, -1.0]]], np.float32)  # (member, pair, 2)
    label = np.tile(np.array([0, 1], np.int8), (2, 1))
    found = evaluation.count_rates(evaluation.called(logits), label)
    assert (found.tpr.count, found.tpr.trials, found.tpr.value) == (1.0, 2, 0.5)
    assert (found.fpr.count, found.fpr.trials, found.fpr.value) == (0.5, 2, 0.25)
    each = [evaluation.rates(torch.from_numpy(one), torch.from_numpy(label)) for one in logits]
    assert np.mean(each, axis=0) == pytest.approx([found.tpr.value, found.fpr.value])
    strict = evaluation.count_rates(evaluation.called(logits, threshold=0.8), label)
    assert strict.tpr.count == 0.5
    assert strict.fpr.count == 0


def test_precision_is_bayes_rule_with_the_worst_and_the_best_of_both_rates() -> None:
    rates = Rates(rate(360, 1000), rate(1, 1000))
    found = evaluation.precision(rates, 0.02)
    assert found.value == pytest.approx(0.02 * 0.36 / (0.02 * 0.36 + 0.98 * 0.001))
    assert found.low == pytest.approx(0.02 * rates.tpr.low / (0.02 * rates.tpr.low + 0.98 * rates.fpr.high))
    assert found.low < found.value < found.high
    clean = evaluation.precision(Rates(rates.tpr, rate(0, 1000)), 0.02)
    assert (clean.value, clean.high) == (1.0, 1.0)
    assert clean.low < 0.7  # no false alarm in a thousand says little of two in a hundred
    assert math.isnan(evaluation.precision(Rates(rate(0, 9), rate(0, 9)), 0.02).value)
    with pytest.raises(ValueError, match="SB2 fraction is 2"):
        evaluation.precision(rates, 2.0)


@given(st.floats(0.0, 0.99), st.floats(0.001, 0.01))
def test_precision_grows_with_the_sb2_fraction(fraction: float, step: float) -> None:
    rates = Rates(rate(30, 100), rate(2, 100))
    less, greater = (evaluation.precision(rates, one) for one in (fraction, fraction + step))
    assert less.value < greater.value
    assert less.low <= less.value <= less.high


def test_bins_hold_their_lower_edge_and_the_last_its_end() -> None:
    values = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.1, -0.1, np.nan], np.float32)
    first, second = evaluation.binned(values, np.array([1, 0, 1, 1, 0, 1, 1, 1]), [0.0, 1.0, 2.0])
    assert first == evaluation.Bin(0.0, 1.0, 0.25, rate(1, 2))
    assert second == evaluation.Bin(1.0, 2.0, 1.5, rate(2, 3))
    (empty,) = evaluation.binned(values, np.ones(8), [5.0, 6.0])
    assert math.isnan(empty.mean)
    assert empty.rate.trials == 0


@given(st.integers(0, 2**32 - 1))
def test_reliability_counts_every_spectrum_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability, label = rng.random((50, 2), np.float32), rng.integers(0, 2, (50, 2))
    probability[:2] = [[0.0, 1.0], [0.1, 0.9]]
    bins = evaluation.reliability(probability, label)
    assert sum(one.rate.trials for one in bins) == 100
    assert sum(one.rate.count for one in bins) == label.sum()
    assert all(one.start <= one.mean <= one.stop for one in bins if one.rate.trials)


@pytest.mark.parametrize("penalty", [1, 16])
def test_a_network_without_error_lies_on_the_calibrated_curve(penalty: int) -> None:
    fraction = np.array([0.05, 0.3, 0.8])
    tried = np.linspace(1e-4, 1 - 1e-4, 99_991)
    loss = -fraction[:, None] * np.log(tried) - penalty * (1 - fraction[:, None]) * np.log(1 - tried)  # equation 7
    np.testing.assert_allclose(evaluation.calibrated(tried[loss.argmin(axis=1)], penalty), fraction, atol=1e-3)


def test_spectra_are_judged_as_their_members_judge(make_ensemble: Callable[..., Path]) -> None:
    folder = make_ensemble()
    rng = np.random.default_rng(5)
    flux = {arm: (1.0 + 0.3 * rng.standard_normal((45, n))).astype(np.float32) for arm, n in (("B", 120), ("R", 131))}
    ensemble = Ensemble.load(folder)
    found = evaluation.judge(ensemble, flux)
    assert tuple(found) == HEADS
    networks = [checkpoint.load(path)[0] for path in checkpoint.members(folder)]
    for head, logits in found.items():
        assert logits.shape == (2, 45, 2)
        assert logits.dtype == np.float32
        for one, network in zip(logits, networks, strict=True):
            with torch.inference_mode():
                expected = network({arm: torch.from_numpy(each) for arm, each in flux.items()})[head]
            np.testing.assert_allclose(one, expected, atol=2e-4)
    alone = evaluation.judge(ensemble, {"R": flux["R"]})
    assert list(alone) == ["R"]
    np.testing.assert_array_equal(alone["R"], found["R"])
    with pytest.raises(EnsembleError, match="take 120 pixels of arm B; these spectra have 119"):
        evaluation.judge(ensemble, {"B": flux["B"][:, 1:]})


def test_logits_are_the_networks_in_the_order_of_the_pairs(
    pairs: PairArrays, make_network: Callable[..., Network]
) -> None:
    network = make_network(3).train()
    logits, label = logits_of(network, pairs.parts(TEST), batch=30)
    assert network.training
    mine = pairs.split == TEST
    torch.testing.assert_close(label, torch.from_numpy(pairs.label[mine]).float())
    flux = {
        arm: torch.from_numpy(np.asarray(each[:], np.float16)[mine]).float().flatten(0, 1)
        for arm, each in pairs.flux.items()
    }
    with torch.no_grad():
        expected = network.eval()(flux)
    for head in HEADS:
        assert logits[head].shape == (100, 2, 2)
        torch.testing.assert_close(logits[head].flatten(0, 1), expected[head], rtol=1e-4, atol=2e-4)


def test_a_split_s_rates_have_names(pairs: PairArrays, make_network: Callable[..., Network]) -> None:
    logits, label = logits_of(make_network(3), pairs.parts(TEST))
    named = evaluation.named_rates("test", logits, label, 1)
    assert len(named) == 4 * len(HEADS)
    for head in HEADS:
        mine = logits[head][..., 1]
        assert (named[f"test_tpr_{head}"], named[f"test_fpr_{head}"]) == evaluation.rates(mine, label)
        for name, fpr in (("fpr_0.001", 1e-3), ("paper_fpr", evaluation.PAPER_FPR[head])):
            assert named[f"test_tpr_{head}_at_{name}"] == evaluation.tpr_at(mine, label, fpr)


def test_a_rate_is_plain_data() -> None:
    assert rate(1, 4) == Rate(1.0, 4, 0.25, pytest.approx(0.0456, abs=1e-4), pytest.approx(0.6994, abs=1e-4))
