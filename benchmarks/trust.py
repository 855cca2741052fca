"""Whether what is stated of false candidates holds, on made-up surveys of which every star is known.

Each draw is a catalog of scores (``twinlines.pipeline.testing.trust``): single stars whose odds are not what they say,
some odd at every exposure, more so where they are faint or cool; binaries that some exposures show; nulls of many
exposures, fewer where stars are faint. Counted is in how many draws the part of singles among the candidates is above
what was stated: by the bound, by q-values (which hold in the mean alone), and, the baseline, by taking the networks'
probabilities at their word: as many stars as keep the mean of 1 - p, of each star's best exposure, below the stated
rate. Then whether the bound holds at every threshold at once, and whether the prevalence's interval holds the truth.

    python benchmarks/trust.py [--draws 100] [--fdr 0.05 0.1 0.2] [--singles 4000] [--binaries 300] [--nulls 4000]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.catalog import questions  # noqa: F401 (the accessor ``sb2``)
from twinlines.pipeline.testing.trust import MadeVerdicts, VerdictConfig, make_verdicts
from twinlines.pipeline.validation.trust.calibration import Calibration, calibrate
from twinlines.pipeline.validation.trust.scores import Exposures


def exposures_of(made: MadeVerdicts) -> Exposures:
    """The made-up catalog's exposures by star."""
    rows = made.catalog
    star = rows["obsid"].values - rows["obsid"].values.min()
    return Exposures.of(
        rows.sb2.probability("J").values,
        star,
        *(rows[name].values for name in ("bjdmid", "obsid", "snr_B", "rv_teff_B")),
        np.ones(len(star), np.bool_),
    )


def at_their_word(result: Calibration, fdr: float) -> NDArray[np.bool_]:
    """Candidates if probabilities were ones: the largest set of best stars of which a part ``fdr`` is single."""
    exposures = result.exposures
    best = np.maximum.reduceat(exposures.logit, exposures.first)
    order = np.flatnonzero(~result.null)
    order = order[np.argsort(-best[order])]
    single = np.cumsum(1.0 / (1.0 + np.exp(best[order]))) / np.arange(1, len(order) + 1)
    chosen = np.zeros(len(result.name), np.bool_)
    chosen[order[: int(np.searchsorted(single, fdr, side="right"))]] = True
    return chosen


def judge(result: Calibration, binaries: NDArray[np.int64], rates: list[float]) -> dict[str, Any]:
    """What came true in one draw."""
    double = np.isin(result.name, binaries)
    told: dict[str, Any] = {}
    for fdr in rates:
        ways = {
            "bound": result.bounded_false <= fdr,
            "mean": result.expected_false <= fdr,
            "word": at_their_word(result, fdr),
        }
        for way, chosen in ways.items():
            false = float(np.sum(chosen & ~double) / max(chosen.sum(), 1))
            told[f"{way}_{fdr:g}"] = (false, float(np.sum(chosen & double) / double.sum()))
    order = np.argsort(result.p_value[result.tested], kind="stable")
    false = np.cumsum(~double[result.tested][order]) / np.arange(1, len(order) + 1)
    p = result.p_value[result.tested][order]
    last = np.r_[p[1:] > p[:-1], True]  # thresholds lie between different p-values
    told["everywhere"] = bool((false <= result.bounded_false[result.tested][order] + 1e-12)[last].all())
    truth = double[result.tested].mean()
    told["prevalence"] = (
        bool(result.prevalence.low <= truth <= result.prevalence.high),
        result.prevalence.value,
        truth,
    )
    return told


def main() -> None:
    """Draw surveys, and print what held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--fdr", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--singles", type=int, default=4000)
    parser.add_argument("--binaries", type=int, default=300)
    parser.add_argument("--nulls", type=int, default=4000)
    asked = parser.parse_args()
    config = VerdictConfig(singles=asked.singles, binaries=asked.binaries, repeated=asked.nulls, faint_nulls=0.3)
    told, seconds, nulls = [], 0.0, []
    for seed in range(asked.draws):
        made = make_verdicts(seed, config)
        exposures, started = exposures_of(made), time.perf_counter()
        result = calibrate(exposures, made.repeated)
        seconds += time.perf_counter() - started
        nulls.append(result.equal_nulls)
        told.append(judge(result, made.binaries, asked.fdr))
    summary: dict[str, Any] = {"draws": asked.draws, "equal_nulls": float(np.mean(nulls))}
    for fdr in asked.fdr:
        for way in ("bound", "mean", "word"):
            false, found = np.array([one[f"{way}_{fdr:g}"] for one in told]).T
            summary[f"{way}_{fdr:g}"] = {
                "within": int(np.sum(false <= fdr)),
                "false_mean": round(float(false.mean()), 4),
                "false_most": round(float(false.max()), 4),
                "found_mean": round(float(found.mean()), 4),
            }
            print(f"at most {fdr:g} false, by {way}: {summary[f'{way}_{fdr:g}']}")
    holds, value, truth = np.array([one["prevalence"] for one in told]).T
    summary |= {
        "bound_holds_everywhere": int(sum(one["everywhere"] for one in told)),
        "prevalence_holds": int(holds.sum()),
        "prevalence_mean": round(float(value.mean()), 4),
        "prevalence_true": round(float(truth.mean()), 4),
        "seconds_each": round(seconds / asked.draws, 3),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
