"""How well networks tell pairs apart: true and false positive rates (Zhang et al. 2022, section 3.4), with intervals.

Knows arrays: no survey, no cluster, no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from twinlines.models.batches import batches
from twinlines.models.ensemble import Ensemble, EnsembleError
from twinlines.models.network import Network
from twinlines.models.pairs import Part
from twinlines.models.vocabulary import HEADS

FIXED_FPR = 1.0e-3
"""False positive rate at which ``tpr_at_fpr_0.001`` is measured: about the paper's at penalty 16 (Table 3)."""

PAPER_FPR = {"B": 0.0013, "R": 0.0016, "J": 0.0013}
"""The paper's false positive rate of each arm at penalty 16 (Table 3), rounded; for both arms together, which it does
not judge, that of the blue one."""

LEVEL = 0.95
"""Confidence level of binomial intervals."""

_TILE = 20  # spectra judged together: as many as the catalog's draws, whose activations stay in a core's cache


def logits_of(network: Network, parts: Iterable[Part], batch: int = 128) -> tuple[dict[str, Tensor], Tensor]:
    """Logits of pairs by head, (pair, 2, penalty) float32 on the CPU, and their labels, (pair, 2)."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    logits: dict[str, list[Tensor]] = {head: [] for head in HEADS}
    labels = []
    with torch.inference_mode():
        for shown in batches(parts, batch, device):
            judged = network({arm: flux.flatten(0, 1) for arm, flux in shown.flux.items()})
            for head, values in judged.items():
                logits[head].append(values.float().view(len(shown.label), 2, -1).cpu())
            labels.append(shown.label.cpu())
    network.train(training)
    return {head: torch.cat(values) for head, values in logits.items()}, torch.cat(labels)


def judge(ensemble: Ensemble, flux: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Logits of spectra as they are, without further noise, from every member.

    Parameters
    ----------
    ensemble
        Whose members judge.
    flux
        By arm, (spectrum, pixel) flux over continuum of the same exposures.

    Returns
    -------
    dict
        By head, (member, spectrum, penalty) float32; the head of both arms only if both are there.

    Raises
    ------
    EnsembleError
        If the members take spectra of another length.
    """
    for arm, values in flux.items():
        if values.shape[1] != ensemble.pixels[arm]:
            raise EnsembleError(
                f"the members take {ensemble.pixels[arm]} pixels of arm {arm}; these spectra have {values.shape[1]}"
            )
    count = len(next(iter(flux.values())))
    parts: dict[str, list[NDArray[np.float32]]] = {}
    with torch.inference_mode():
        for start in range(0, count, _TILE):
            deviation = {
                arm: torch.from_numpy(values[start : start + _TILE] - np.float32(1.0)).to(ensemble.device)
                for arm, values in flux.items()
            }
            judged = [member(deviation) for member in ensemble.members]
            for head in judged[0]:
                parts.setdefault(head, []).append(torch.stack([each[head] for each in judged]).cpu().numpy())
    return {head: np.concatenate(values, axis=1) for head, values in parts.items()}


def rates(logits: Tensor, label: Tensor, threshold: float = 0.5) -> tuple[float, float]:
    """True and false positive rate (equations 11 and 10) at a threshold in probability.

    Parameters
    ----------
    logits, label
        (pair, 2) logits and labels of the spectra.
    threshold
        Probability above which a spectrum counts as a binary's.
    """
    positive = torch.sigmoid(logits.double()) > threshold
    truth = label > 0.5
    return float(positive[truth].double().mean()), float(positive[~truth].double().mean())


def threshold_at(singles: NDArray[np.floating[Any]], fpr: float) -> float:
    """The lowest threshold that lets through no more of single stars' scores, ascending, than a fraction ``fpr``."""
    # The least number above the product: 0.3 of ten single stars is three of them, whatever their binary digits.
    allowed = int(np.nextafter(fpr * len(singles), np.inf))
    return float(singles[max(len(singles) - 1 - allowed, 0)])


def tpr_at(logits: Tensor, label: Tensor, fpr: float) -> float:
    """True positive rate at the lowest threshold of a false positive rate up to ``fpr``; both tensors (pair, 2)."""
    truth = label > 0.5
    return float((logits[truth] > threshold_at(np.sort(logits[~truth].numpy()), fpr)).double().mean())


def named_rates(split: str, logits: Mapping[str, Tensor], label: Tensor, penalty: int) -> dict[str, float]:
    """Rates of a split's pairs under the names that a member's metrics have.

    Parameters
    ----------
    split
        Name of the split.
    logits
        By head, (pair, 2, penalty).
    label
        (pair, 2).
    penalty
        Place of the penalty whose rates are told.
    """
    named: dict[str, float] = {}
    for head, values in logits.items():
        mine = values[..., penalty]
        tpr, fpr = rates(mine, label)
        named |= {
            f"{split}_tpr_{head}": tpr,
            f"{split}_fpr_{head}": fpr,
            f"{split}_tpr_{head}_at_fpr_{FIXED_FPR:g}": tpr_at(mine, label, FIXED_FPR),
            f"{split}_tpr_{head}_at_paper_fpr": tpr_at(mine, label, PAPER_FPR[head]),
        }
    return named


@dataclass(frozen=True)
class Rate:
    """A fraction of trials with its binomial interval."""

    count: float
    """Successes; not whole where it is a mean over members that judged the same spectra."""
    trials: int
    """Trials."""
    value: float
    """count / trials; NaN without trials."""
    low: float
    """Lower end of Wilson's interval at :data:`LEVEL`."""
    high: float
    """Upper end of Wilson's interval at :data:`LEVEL`."""


def rate(count: float, trials: int, level: float = LEVEL) -> Rate:
    """Make a rate from counts, with the score interval of Wilson (1927, J. Am. Stat. Assoc. 22, 209).

    Without successes the upper end is z^2 / (trials + z^2): 3.84 / trials where the trials are many. A mean over
    members has no whole count, which SciPy's interval asks for and astropy's makes by rounding down; so this one is
    ours, and the tests hold it against SciPy's to 1e-12 where counts are whole.

    Raises
    ------
    ValueError
        If the counts cannot be.
    """
    if not 0 <= count <= trials:
        raise ValueError(f"{count} successes of {trials} trials cannot be; count from 0 to the trials")
    if trials == 0:
        return Rate(0.0, 0, math.nan, 0.0, 1.0)
    value = count / trials
    z2 = float(ndtri(0.5 + level / 2.0)) ** 2 / trials
    centre = (value + z2 / 2.0) / (1.0 + z2)
    half = math.sqrt(z2 * value * (1.0 - value) + z2**2 / 4.0) / (1.0 + z2)
    # Rounding must not push an end past the estimate where that is 0 or 1.
    return Rate(float(count), trials, value, max(0.0, min(centre - half, value)), min(1.0, max(centre + half, value)))


@dataclass(frozen=True)
class Rates:
    """True and false positive rate of one rule on the same pairs."""

    tpr: Rate
    """Binaries that are called binaries (equation 11)."""
    fpr: Rate
    """Single stars that are called binaries (equation 10)."""


def called(logits: NDArray[np.float32], threshold: float = 0.5) -> NDArray[np.float64]:
    """Fraction of the members, the first axis, whose probability for a spectrum is above ``threshold``."""
    return np.asarray((logits > math.log(threshold / (1.0 - threshold))).mean(axis=0), np.float64)


def count_rates(positive: NDArray[np.float64] | NDArray[np.bool_], label: NDArray[np.integer[Any]]) -> Rates:
    """Rates, with intervals, of a rule or of the mean over members.

    The mean over members of a rate is one trial a spectrum, not one a member: members err on the same spectra, and an
    interval from pooled counts would be too narrow.

    Parameters
    ----------
    positive
        (pair, 2) whether each spectrum is called a binary, or the fraction of the members that call it so.
    label
        (pair, 2) 1 where the spectrum shows two stars, else 0.
    """
    truth = label > 0
    tpr, fpr = (rate(float(positive[rows].sum()), int(np.count_nonzero(rows))) for rows in (truth, ~truth))
    return Rates(tpr, fpr)


@dataclass(frozen=True)
class Precision:
    """Fraction of true binaries among what is called a binary, at a stated fraction among what is judged."""

    sb2_fraction: float
    """Fraction of the judged spectra that show two stars."""
    value: float
    """f TPR / (f TPR + (1 - f) FPR); NaN where nothing is called a binary."""
    low: float
    """The same with the lower end of the TPR and the upper end of the FPR."""
    high: float
    """The same with the upper end of the TPR and the lower end of the FPR."""


def precision(rates: Rates, sb2_fraction: float) -> Precision:
    """Precision that rates imply where a fraction ``sb2_fraction`` of the spectra are binaries like the test's.

    Raises
    ------
    ValueError
        If the fraction is not between 0 and 1.
    """
    if not 0.0 <= sb2_fraction <= 1.0:
        raise ValueError(f"the SB2 fraction is {sb2_fraction}; give a number from 0 to 1")

    def share(tpr: float, fpr: float) -> float:
        true, false = sb2_fraction * tpr, (1.0 - sb2_fraction) * fpr
        return true / (true + false) if true + false > 0.0 else math.nan

    tpr, fpr = rates.tpr, rates.fpr
    return Precision(sb2_fraction, share(tpr.value, fpr.value), share(tpr.low, fpr.high), share(tpr.high, fpr.low))


@dataclass(frozen=True)
class Bin:
    """A rate among the spectra whose value lies in [start, stop); the last bin holds its end."""

    start: float
    """Lower edge."""
    stop: float
    """Upper edge."""
    mean: float
    """Mean value of the spectra within; NaN where there are none."""
    rate: Rate
    """What fraction of them."""


def binned(
    values: NDArray[np.floating[Any]],
    positive: NDArray[Any],
    edges: NDArray[np.float64] | Sequence[float],
) -> tuple[Bin, ...]:
    """Rates in bins of a value; what lies outside the edges, or is not finite, is in no bin.

    Parameters
    ----------
    values
        (spectrum,) a parameter, or a probability.
    positive
        (spectrum,) 1 or 0, or a fraction in between, of which the rate is the mean.
    edges
        Ascending edges of the bins, one more than there are bins.
    """
    edges = np.asarray(edges, np.float64)
    place = np.searchsorted(edges, values, side="right") - 1
    place[values == edges[-1]] = len(edges) - 2
    bins = []
    for index, (start, stop) in enumerate(pairwise(edges.tolist())):
        rows = place == index
        trials = int(np.count_nonzero(rows))
        mean = float(values[rows].mean(dtype=np.float64)) if trials else math.nan
        bins.append(Bin(start, stop, mean, rate(float(positive[rows].sum()), trials)))
    return tuple(bins)


def reliability(
    probability: NDArray[np.floating[Any]], label: NDArray[np.integer[Any]], bins: int = 10
) -> tuple[Bin, ...]:
    """Observed fraction of binaries in even bins of the predicted probability; arrays of one shape."""
    return binned(probability.ravel(), (label > 0).ravel(), np.linspace(0.0, 1.0, bins + 1))


def calibrated(probability: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Fraction of binaries that a probability means to a network without error.

    Where a fraction f of the spectra that look alike are binaries, equation 7 is least at p = f / (f + penalty (1 - f))
    and not at p = f: solved for f, penalty p / (1 + (penalty - 1) p). A penalty of 1 gives the diagonal. The fraction
    is that among the training pairs, half of whose spectra are binaries, not among a survey's.
    """
    return penalty * probability / (1.0 + (penalty - 1.0) * probability)
