"""The ensemble's hot loop against the literal reading of the paper, on one thread; and mixed precision against float32.

The literal reading (Zhang et al. 2022, section 3.3): for each spectrum, penalty and member, add noise 20 times, let the
network as trained judge the copies, and take percentiles; plain float32 torch. Ours: from normalised flux and error to
percentiles, three penalties, five members, 20 draws: 300 passes. Default sizes, random weights, the blue arm's pixels.
Seconds are CPU time of the process, the least of repeats that take turns, so that a busy machine disturbs little.

Mixed precision is held against float32 with the same noise, on synthetic stars and twins judged by the ensemble that
ships; where the CPU has no bfloat16 its rounding is emulated, slowly, and its speed is not measured.

    python benchmarks/ensemble.py [--spectra 16] [--repeats 5] [--accuracy 500]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from twinlines.models import checkpoint, tile
from twinlines.models.ensemble import PERCENTILES, Ensemble
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.noise import normal
from twinlines.models.precision import has_bfloat16
from twinlines.models.tile import tile_size
from twinlines.pipeline.arms import ARMS
from twinlines.pipeline.evaluation.twins import TWINS
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS
from twinlines.pipeline.synthesis.spectra import Stars, add_noise, component

ARM = ARMS["B"]
PENALTIES = (8, 16, 32)
MEMBERS = 5
DRAWS = 20
SQUARE = 1536
"""Rows of the square matrices whose product is the machine's peak."""

Spectra = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def make_ensemble(folder: Path) -> dict[int, list[Network]]:
    """Write an ensemble of random weights; returns its networks as they are read, by penalty."""
    networks: dict[int, list[Network]] = {}
    for penalty in PENALTIES:
        for member in range(1, MEMBERS + 1):
            torch.manual_seed(100 * penalty + member)
            network = Network(NetworkConfig(ARM.n_pixels))
            network.train()
            network(1.0 + 0.05 * torch.randn(64, ARM.n_pixels))  # gives the normalisations something to fold
            header = checkpoint.Header("B", penalty, member, 0, "random weights")
            path = folder / f"{header.stem}{checkpoint.SUFFIX}"
            checkpoint.save(path, network, header)
            networks.setdefault(penalty, []).append(checkpoint.load(path)[0])
    return networks


def literal(networks: dict[int, list[Network]], spectra: Spectra) -> dict[int, NDArray[np.float32]]:
    flux, sigma, _ = spectra
    rows: dict[int, list[NDArray[np.float32]]] = {penalty: [] for penalty in networks}
    with torch.inference_mode():
        for one_flux, one_sigma in zip(torch.from_numpy(flux), torch.from_numpy(sigma), strict=True):
            for penalty, members in networks.items():
                values = []
                for member in members:
                    noisy = one_flux + one_sigma * torch.randn(DRAWS, len(one_flux))
                    values.append(member.probability(noisy))
                rows[penalty].append(np.percentile(torch.cat(values).numpy(), PERCENTILES))
    return {penalty: np.asarray(each, np.float32) for penalty, each in rows.items()}


def least(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU seconds of each step: the least of repeats, taken in turns after one round to warm up."""
    seconds = dict.fromkeys(steps, np.inf)
    for turn in range(repeats + 1):
        for name, step in steps.items():
            began = time.process_time()
            step()
            if turn:
                seconds[name] = min(seconds[name], time.process_time() - began)
    return seconds


def stages(ensemble: Ensemble, spectra: Spectra) -> dict[str, Callable[[], object]]:
    """The parts of the loop, each for all spectra and members, by what they do."""
    flux, _, keys = spectra
    members = [member for group in ensemble.members["B"].values() for member in group]
    size = tile_size(members, DRAWS)
    draws = 0.1 * torch.randn(DRAWS, ARM.n_pixels)
    layout = members[0].layout
    laid = layout.empty(size * DRAWS, ARM.n_pixels)
    with torch.inference_mode():
        features = members[0].features(laid)
    values = np.random.default_rng(0).random((len(flux), len(PENALTIES), MEMBERS * DRAWS), np.float32)

    def convolve(count: int) -> None:
        for place in range(len(flux)):
            start = place % size * DRAWS
            layout.fill(laid[start : start + DRAWS], draws)
        for member in members:
            every = member.convolutions
            member.convolutions = every[:count]
            for _ in range(len(flux) // size):
                member.features(laid)
            member.convolutions = every

    steps: dict[str, Callable[[], object]] = {
        "noise": lambda: [normal(key[None], 66, 0, DRAWS, ARM.n_pixels) for key in keys]
    }
    for count in range(1, len(members[0].convolutions) + 1):
        steps[f"convolutions 1 to {count}"] = lambda count=count: convolve(count)  # type: ignore[misc]
    steps["dense"] = lambda: [member.logits(features) for member in members for _ in range(len(flux) // size)]
    steps["percentiles"] = lambda: np.percentile(values, PERCENTILES, axis=-1)
    return steps


def in_tiles_of(most: int, step: Callable[[], object]) -> Callable[[], object]:
    """The step, with at most so many spectra in a tile."""

    def run() -> None:
        with mock.patch.object(tile, "_MOST_SPECTRA", most):
            step()

    return run


def square_product(dtype: torch.dtype) -> Callable[[], object]:
    """A product of two square matrices: the machine's peak."""
    left, right, product = (torch.randn(SQUARE, SQUARE).to(dtype) for _ in range(3))
    return in_inference_mode(lambda: torch.mm(left, right, out=product))


def operations(ensemble: Ensemble) -> float:
    """Sums and products of a spectrum, 1e9."""
    return 1e-9 * DRAWS * sum(member.operations for group in ensemble.members["B"].values() for member in group)


def in_inference_mode(step: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        with torch.inference_mode():
            step()

    return run


def stars_and_twins(count: int) -> Spectra:
    """Noisy spectra of single stars and of twins at separations up to 200 km/s, S/N from 10 to 60."""
    rng = np.random.default_rng(1)
    library = Library.load()
    dwarfs = [twin for twin in TWINS if 4000.0 < twin.teff < 8000.0]
    labels = np.array([dwarfs[i].labels for i in rng.integers(len(dwarfs), size=count)])
    vsini, ones = rng.uniform(5.0, 50.0, count), np.ones(count)
    apart = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0.0, 200.0, count))
    light = sum(component(ARM, library, Stars(labels, ones, vsini, velocity)) for velocity in (0.0 * apart, apart))
    snr = torch.from_numpy(rng.uniform(10.0, 60.0, count))
    keys = np.stack([np.arange(count) + 10**8, np.full(count, 84_000_000)], axis=1)
    noisy, sigma = add_noise(torch.as_tensor(light), snr, keys, ARM, seed=7)
    normalised, continuum = normalise(torch.from_numpy(ARM.wavelength), noisy.double().clamp_min_(0.0))
    return normalised.float().numpy(), (sigma / continuum).float().numpy(), keys


def mixed_against_float32(count: int, n_draws: int = DRAWS) -> dict[str, float]:
    """How far medians move in mixed precision, with the ensemble that ships."""
    spectra = stars_and_twins(count)
    ensembles = [
        Ensemble.load(SHIPPED_WEIGHTS, precision=precision, arms="B", emulate=True)
        for precision in ("float32", "mixed")
    ]
    exact, mixed = (
        np.stack([each[:, 2] for each in ensemble.percentiles("B", *spectra, n_draws=n_draws).values()])
        for ensemble in ensembles
    )
    moved = np.abs(mixed - exact)
    crossed = ((mixed > 0.5) != (exact > 0.5)) & (moved > 0.02)
    return {
        "spectra": count,
        "medians_above_half": float((exact > 0.5).mean()),
        "p99_of_change": float(np.percentile(moved, 99)),
        "largest_change": float(moved.max()),
        "crossed_half_by_more_than_0.02": int(crossed.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spectra", type=int, default=16, help="spectra timed; a multiple of the tile's 8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--accuracy", type=int, default=500, help="spectra for mixed precision against float32")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    count = asked.spectra
    flux = rng.normal(1.0, 0.05, (count, ARM.n_pixels)).astype(np.float32)
    keys = np.stack([np.arange(count) + 10**8, np.full(count, 84_000_000)], axis=1)
    spectra = flux, np.full_like(flux, 0.03), keys
    with tempfile.TemporaryDirectory() as folder:
        networks = make_ensemble(Path(folder))
        ensembles = {each: Ensemble.load(Path(folder), precision=each, arms="B") for each in ("float32", "mixed")}
    float32 = ensembles["float32"]

    steps: dict[str, Callable[[], object]] = {
        "literal": lambda: literal(networks, spectra),
        "float32": lambda: float32.percentiles("B", *spectra),
        "float32 peak": square_product(torch.float32),
    }
    if has_bfloat16("cpu"):
        steps["mixed"] = lambda: ensembles["mixed"].percentiles("B", *spectra)
        steps["bfloat16 peak"] = square_product(torch.bfloat16)
    used = "mixed" if "mixed" in steps else "float32"
    parts = {name: in_inference_mode(step) for name, step in stages(ensembles[used], spectra).items()}
    smaller = {f"{used}, tiles of {most}": in_tiles_of(most, steps[used]) for most in (1, 2, 4)}
    seconds = least({**steps, **parts, **smaller}, asked.repeats)

    each = {name: 1e3 * value / count for name, value in seconds.items()}
    peaks = {
        name: 2e-9 * SQUARE**3 / seconds[f"{name} peak"] for name in ("float32", "bfloat16") if f"{name} peak" in each
    }
    work = operations(float32)
    # Milliseconds at the peak.
    floor = {"literal": 1e3 * work / peaks["float32"], "float32": 1e3 * work / peaks["float32"]}
    if "mixed" in each:
        floor["mixed"] = 1e3 * work / peaks["bfloat16"]
    print("matrix-multiply peak:", ", ".join(f"{name} {peak:.1f} GFLOP/s" for name, peak in peaks.items()))
    print(f"sums and products: {work:.2f} GFLOP a spectrum")
    for name in ("literal", "float32", "mixed"):
        if name in each:
            ratio, share = each["literal"] / each[name], floor[name] / each[name]
            print(f"{name:8}: {each[name]:6.2f} ms a spectrum, {ratio:.2f} x literal, {share:.0%} of the peak")
        else:
            print(f"{name:8}: unavailable, this CPU has no bfloat16")
    before = 0.0
    for name in parts:
        # Convolutions are timed from the first to each, so that the next finds its input where the loop leaves it.
        mine, before = (each[name] - before, each[name]) if "convolutions" in name else (each[name], 0.0)
        print(f"  {used}, {name.replace('convolutions 1 to', 'convolution'):14}: {mine:6.2f} ms a spectrum")
    for name in smaller:
        print(f"  {name:27}: {each[name]:6.2f} ms a spectrum")
    difference = max(
        float(np.abs(float32.percentiles("B", *spectra)[p][:, 2] - rows[:, 2]).max())
        for p, rows in literal(networks, spectra).items()
    )
    print(f"largest difference of medians, float32 - literal (other noise): {difference:.1e}")
    accuracy = mixed_against_float32(asked.accuracy)
    print(f"mixed against float32: {accuracy}")
    result = {
        "name": "ensemble",
        "value": each[used],
        "unit": "ms/spectrum",
        "baseline": each["literal"],
        "ratio": each["literal"] / each[used],
        "precision": used,
        "float32_ratio": each["literal"] / each["float32"],
        "share_of_peak": {name: least_ms / each[name] for name, least_ms in floor.items()},
        "peak_gflops": peaks,
        "tiles_of": {name.rpartition(" ")[2]: each[name] for name in smaller},
        "passes": len(PENALTIES) * MEMBERS * DRAWS,
        "mixed_against_float32": accuracy,
        "threads": 1,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
