"""The ensemble's hot loop against the literal reading of the paper, on one thread; mixed precision against float32.

The literal reading (Zhang et al. 2022, section 3.3): for each spectrum, arm, penalty and member, add noise 20 times,
let a network of its own, as trained, judge the copies, and take percentiles; plain float32 torch. It has no verdict of
both arms. Ours: from normalised flux and error of both arms to percentiles of three penalties, five members and 20
draws, by the heads of each arm and of both: 300 values a spectrum and arm, and 300 more of both. Default sizes, random
weights. Seconds are CPU time of this thread, the least of repeats that take turns, so that a busy machine disturbs
little.

Mixed precision is held against float32 with the same noise, on synthetic stars and twins judged by the ensemble that
ships, if there is one for this code; where the CPU has no bfloat16 its rounding is emulated, slowly, and its speed is
not measured.

    python benchmarks/ensemble.py [--exposures 16] [--repeats 7] [--accuracy 500]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.models import checkpoint, tile
from twinlines.models.ensemble import Ensemble
from twinlines.models.inference_member import InferenceTrunk
from twinlines.models.network import Head, Network, NetworkConfig, Trunk
from twinlines.models.noise import normal
from twinlines.models.precision import has_bfloat16
from twinlines.models.tile import HostTile
from twinlines.models.vocabulary import ARMS, HEADS, PERCENTILES, SURVEY_STREAMS
from twinlines.pipeline.arms import ARMS as GRIDS
from twinlines.pipeline.arms import BLUE, RED
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS

PENALTIES = (8, 16, 32)
MEMBERS = 5
DRAWS = 20
TILES = (1, 2, 4, 8, 16)
SQUARE = 1536
"""Rows of the square matrices whose product is one measure of the machine's peak."""

Arrays = dict[str, NDArray[np.float32]]
Exposures = tuple[Arrays, Arrays, NDArray[np.int64]]


class Own(torch.nn.Module):
    """What the paper trains: a network for one arm and one penalty, of the same sizes."""

    def __init__(self, arm: str, config: NetworkConfig, penalty: int) -> None:
        super().__init__()
        alone = NetworkConfig(config.pixels, (penalty,))
        self.trunk, self.head = Trunk(arm, alone), Head(alone.features, alone.head, alone)

    def forward(self, flux: Tensor) -> Tensor:
        """Probabilities (batch,) of spectra (batch, pixel)."""
        return torch.sigmoid(self.head(self.trunk(flux))[:, 0])


def make_ensemble(folder: Path) -> dict[str, dict[int, list[Own]]]:
    """Write an ensemble of random weights; returns networks of each arm, penalty and member with the same weights."""
    config = NetworkConfig((BLUE.n_pixels, RED.n_pixels), PENALTIES)
    own: dict[str, dict[int, list[Own]]] = {arm: {penalty: [] for penalty in PENALTIES} for arm in ARMS}
    for member in range(1, MEMBERS + 1):
        torch.manual_seed(member)
        network = Network(config).train()
        # Gives the normalisations something to fold.
        network({arm: 1.0 + 0.05 * torch.randn(64, config.pixels_of(arm)) for arm in ARMS})
        header = checkpoint.Header(member, 0, "random weights")
        path = folder / f"{header.stem}{checkpoint.SUFFIX}"
        checkpoint.save(path, network, header)
        network, _ = checkpoint.load(path)
        for arm in ARMS:
            for place, penalty in enumerate(PENALTIES):
                alone = Own(arm, config, penalty).eval()
                alone.trunk.load_state_dict(network.trunks[arm].state_dict())
                head = network.heads[arm].state_dict()
                alone.head.load_state_dict(
                    {name: each[place : place + 1] if name.startswith("last") else each for name, each in head.items()}
                )
                own[arm][penalty].append(alone)
    return own


def literal(networks: Mapping[str, Mapping[int, list[Own]]], exposures: Exposures) -> dict[str, dict[int, Tensor]]:
    """Percentiles by arm and penalty."""
    flux, sigma, keys = exposures
    out: dict[str, dict[int, Tensor]] = {}
    with torch.inference_mode():
        for arm, by_penalty in networks.items():
            rows: dict[int, list[NDArray[np.float64]]] = {penalty: [] for penalty in by_penalty}
            for place in range(len(keys)):
                spectrum, error = torch.from_numpy(flux[arm][place]), torch.from_numpy(sigma[arm][place])
                for penalty, members in by_penalty.items():
                    values = [member(spectrum + error * torch.randn(DRAWS, len(spectrum))) for member in members]
                    rows[penalty].append(np.percentile(torch.cat(values).numpy(), PERCENTILES))
            out[arm] = {penalty: torch.from_numpy(np.array(each, np.float32)) for penalty, each in rows.items()}
    return out


def least(steps: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of this thread of each step: the least of repeats, taken in turns after one round to warm up."""
    seconds = dict.fromkeys(steps, np.inf)
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for name, step in steps.items():
                began = time.thread_time()
                step()
                if turn:
                    seconds[name] = min(seconds[name], time.thread_time() - began)
    return seconds


def parts_of_the_loop(ensemble: Ensemble, exposures: Exposures) -> dict[str, Callable[[], object]]:
    """The parts of the loop, each for all exposures, arms and members, by what they do."""
    keys = exposures[2]
    members, count = ensemble.members, len(keys)
    judge = HostTile(members, ensemble.pixels, DRAWS)
    tiles = range(count // judge.exposures)
    rows = judge.exposures * DRAWS
    laid = {arm: members[0].trunks[arm].layout.of(0.1 * torch.randn(rows, ensemble.pixels[arm])) for arm in ARMS}
    draws = {arm: 0.1 * torch.randn(DRAWS, ensemble.pixels[arm]) for arm in ARMS}
    with torch.inference_mode():
        features = {arm: members[0].trunks[arm](laid[arm]) for arm in ARMS}
    values = np.random.default_rng(0).random((count, MEMBERS * DRAWS), np.float32)

    def convolve(trunk: InferenceTrunk, x: Tensor, most: int) -> Tensor:
        x = x.permute(0, 2, 1).unsqueeze(2)
        for kernel, bias, stride in trunk.convolutions[:most]:
            x = functional.leaky_relu_(functional.conv2d(x, kernel, bias, (1, stride)), trunk.slope)
        return x

    steps: dict[str, Callable[[], object]] = {
        "noise": lambda: [
            normal(key[None], SURVEY_STREAMS[arm], 0, DRAWS, ensemble.pixels[arm]) for key in keys for arm in ARMS
        ],
        "layout": lambda: [
            members[0].trunks[arm].layout.fill(laid[arm][:DRAWS], draws[arm]) for _ in keys for arm in ARMS
        ],
    }
    every = [(member.trunks[arm], arm) for member in members for arm in ARMS for _ in tiles]
    for most in range(1, len(members[0].trunks["B"].convolutions) + 1):
        steps[f"convolutions 1 to {most}"] = lambda most=most: [  # type: ignore[misc]
            convolve(trunk, laid[arm], most) for trunk, arm in every
        ]
    steps["whole trunks"] = lambda: [trunk(laid[arm]) for trunk, arm in every]
    steps["heads"] = lambda: [member.verdicts(features) for member in members for _ in tiles]
    steps["percentiles"] = lambda: [np.percentile(values, PERCENTILES, axis=1) for _ in HEADS for _ in PENALTIES]
    return steps


def in_tiles_of(count: int, step: Callable[[], object]) -> Callable[[], object]:
    """The step, with so many exposures in a tile, whatever the cache holds."""

    def run() -> None:
        with mock.patch.multiple(tile, _MOST_EXPOSURES=count, _ACTIVATION_BYTES=1 << 40):
            step()

    return run


def peak(dtype: torch.dtype) -> dict[str, tuple[Callable[[], object], float]]:
    """What multiplies as fast as the machine can, and its operations: a product of matrices, and a convolution."""
    left, right, product = (torch.randn(SQUARE, SQUARE).to(dtype) for _ in range(3))
    image, kernels = (
        torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
        for shape in ((16, 128, 24, 24), (128, 128, 3, 3))
    )
    return {
        f"{dtype} product": (lambda: torch.mm(left, right, out=product), 2.0 * SQUARE**3),
        f"{dtype} convolution": (lambda: functional.conv2d(image, kernels), 2.0 * 16 * 22 * 22 * 128 * 128 * 9),
    }


def stars_and_twins(count: int) -> Exposures:
    """Noisy spectra of single stars and of twins at separations up to 200 km/s, S/N from 10 to 60."""
    from twinlines.pipeline.evaluation.twins import TWINS
    from twinlines.pipeline.library.library import Library
    from twinlines.pipeline.spectra.continuum import normalise
    from twinlines.pipeline.synthesis.spectra import Stars, add_noise, component

    rng = np.random.default_rng(1)
    library = Library.load()
    dwarfs = [twin for twin in TWINS if 4000.0 < twin.teff < 8000.0]
    labels = np.array([dwarfs[i].labels for i in rng.integers(len(dwarfs), size=count)])
    vsini, ones = rng.uniform(5.0, 50.0, count), np.ones(count)
    apart = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0.0, 200.0, count))
    snr = torch.from_numpy(rng.uniform(10.0, 60.0, count))
    keys = np.stack([np.arange(count) + 10**8, np.full(count, 84_000_000)], axis=1)
    flux, sigma = {}, {}
    for name, arm in GRIDS.items():
        light = sum(component(arm, library, Stars(labels, ones, vsini, v)) for v in (0.0 * apart, apart))
        noisy, error = add_noise(torch.as_tensor(light), snr, keys, arm, seed=7)
        normalised, continuum = normalise(torch.from_numpy(arm.wavelength), noisy.double().clamp_min_(0.0))
        flux[name], sigma[name] = normalised.float().numpy(), (error / continuum).float().numpy()
    return flux, sigma, keys


def mixed_against_float32(count: int, n_draws: int = DRAWS, weights: Path = SHIPPED_WEIGHTS) -> dict[str, float]:
    """How far medians move in mixed precision, with the ensemble that ships; all heads and penalties."""
    exposures = stars_and_twins(count)
    exact, mixed = (
        np.stack(
            [
                values[:, 2]
                for by_penalty in Ensemble.load(weights, precision=precision, emulate=True)
                .percentiles(*exposures, n_draws=n_draws)
                .values()
                for values in by_penalty.values()
            ]
        )
        for precision in ("float32", "mixed")
    )
    moved = np.abs(mixed - exact)
    crossed = ((mixed > 0.5) != (exact > 0.5)) & (moved > 0.02)
    return {
        "exposures": count,
        "medians_above_half": float((exact > 0.5).mean()),
        "p99_of_change": float(np.percentile(moved, 99)),
        "largest_change": float(moved.max()),
        "crossed_half_by_more_than_0.02": int(crossed.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exposures", type=int, default=16, help="exposures timed; a multiple of the largest tile")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--accuracy", type=int, default=500, help="exposures for mixed precision against float32")
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS, help="ensemble that judges those")
    asked = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in WORKER_ENVIRONMENT.items()):
        # As workers run, both versions; the allocator reads it when the process begins.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **WORKER_ENVIRONMENT})
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    count = asked.exposures
    flux = {arm.name: rng.normal(1.0, 0.05, (count, arm.n_pixels)).astype(np.float32) for arm in (BLUE, RED)}
    sigma = {arm: np.full_like(values, 0.03) for arm, values in flux.items()}
    exposures = flux, sigma, np.stack([np.arange(count) + 10**8, np.full(count, 84_000_000)], axis=1)
    with tempfile.TemporaryDirectory() as folder:
        own = make_ensemble(Path(folder))
        ours = {each: Ensemble.load(Path(folder), precision=each) for each in ("float32", "mixed")}
    if not has_bfloat16("cpu"):
        del ours["mixed"]
        print("mixed: unavailable, this CPU has no bfloat16")

    steps: dict[str, Callable[[], object]] = {"literal": lambda: literal(own, exposures)}
    for name, ensemble in ours.items():
        judge = steps[name] = lambda ensemble=ensemble: ensemble.percentiles(*exposures)  # type: ignore[misc]
        steps |= {f"{name}, tiles of {n}": in_tiles_of(n, judge) for n in TILES}
        steps |= {f"{name}, {part}": step for part, step in parts_of_the_loop(ensemble, exposures).items()}
    fastest = {name: peak(torch.bfloat16 if name == "mixed" else torch.float32) for name in ours}
    steps |= {what: step for by_what in fastest.values() for what, (step, _) in by_what.items()}
    seconds = least(steps, asked.repeats)

    each = {name: 1e3 * value / count for name, value in seconds.items()}
    work = DRAWS * sum(member.operations for member in ours["float32"].members)
    peaks = {
        name: max(operations / seconds[what] for what, (_, operations) in by_what.items())
        for name, by_what in fastest.items()
    }
    print(f"sums and products: {1e-9 * work:.2f} GFLOP an exposure")
    print(f"literal: {each['literal']:.2f} ms an exposure")
    for name in ours:
        print(
            f"{name}: {each[name]:.2f} ms an exposure, {each['literal'] / each[name]:.2f} x literal, "
            f"{1e3 * work / peaks[name] / each[name]:.0%} of the peak, {1e-9 * peaks[name]:.0f} GFLOP/s"
        )
        before = 0.0
        for part in (part for part in each if part.startswith(f"{name}, ")):
            # From the first convolution to each, so that the next finds its input where the loop leaves it.
            less = before if "convolutions 1 to" in part or "whole" in part else 0.0
            before = each[part] if "convolutions" in part else 0.0
            print(f"  {part.replace('convolutions 1 to', 'convolution').replace('whole trunks', 'dense layers')}: "
                  f"{each[part] - less:.2f} ms")  # fmt: skip
    medians, theirs = ours["float32"].percentiles(*exposures), literal(own, exposures)
    apart = max(
        float(np.abs(medians[arm][penalty][:, 2] - theirs[arm][penalty][:, 2].numpy()).max())
        for arm in ARMS
        for penalty in PENALTIES
    )
    print(f"largest difference of medians, float32 - literal (other noise): {apart:.1e}")
    try:
        accuracy = mixed_against_float32(asked.accuracy, weights=asked.weights)
    except checkpoint.CheckpointError as error:
        accuracy = None
        print(f"mixed against float32: not measured ({error})")
    used = "mixed" if "mixed" in ours else "float32"
    result = {
        "name": "ensemble",
        "value": each[used],
        "unit": "ms/exposure",
        "baseline": each["literal"],
        "ratio": each["literal"] / each[used],
        "precision": used,
        "ratios": {name: each["literal"] / each[name] for name in ours},
        "ms": {name: each[name] for name in ours},
        "share_of_peak": {name: 1e3 * work / peaks[name] / each[name] for name in ours},
        "peak_gflops": {name: 1e-9 * value for name, value in peaks.items()},
        "tiles_of": {name: {n: each[f"{name}, tiles of {n}"] for n in TILES} for name in ours},
        "values_of_an_arm": len(PENALTIES) * MEMBERS * DRAWS,
        "mixed_against_float32": accuracy,
        "threads": 1,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
