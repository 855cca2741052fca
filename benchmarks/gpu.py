"""A GPU's values against the CPU's, its speed, and the hours that DR8 would take on it; in under four minutes.

    python benchmarks/gpu.py

Needs torch, numpy, scipy and safetensors, and no more: the networks' code is taken from the repository in which this
file lies, installed or not. Without a GPU it says so, and prints ``{"gpu": null}``.

Checked on random members of the default sizes: the noise's words, bit for bit; its Gaussians; probabilities of all
heads, with and without graph capture, in float32 and in mixed precision. Timed: tiles of several sizes, from arrays on
the host to arrays on the host; the noise alone; a product of large matrices in bfloat16, which is the peak. Hours are
those of the ensemble alone: members, heads and penalties of the ensemble that ships, 20 draws, both arms.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path


def by_path() -> None:
    """Let ``twinlines.models`` be this repository's folder ``models``, and ``twinlines`` nothing else."""
    for name, folders in (("twinlines", []), ("twinlines.models", [str(Path(__file__).parents[1] / "models")])):
        package = types.ModuleType(name)
        package.__path__ = folders
        sys.modules[name] = package


if __name__ == "__main__":
    by_path()

import numpy as np  # noqa: E402 (after the folders are known)
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402

from twinlines.models import noise, philox  # noqa: E402
from twinlines.models.ensemble import Ensemble  # noqa: E402
from twinlines.models.inference_member import InferenceMember  # noqa: E402
from twinlines.models.network import Network, NetworkConfig  # noqa: E402
from twinlines.models.precision import PRECISIONS, PrecisionName, has_bfloat16  # noqa: E402
from twinlines.models.tile import DeviceTile, HostTile  # noqa: E402
from twinlines.models.vocabulary import ARMS, SURVEY_STREAMS  # noqa: E402

PIXELS = (3347, 3509)
"""Pixels of the arms' grids (``pipeline/arms.py``, which this file does not import)."""
MEMBERS, DRAWS = 5, 20
TILES = (16, 64, 128, 256)
DR8 = 5_900_000
"""Exposures of LAMOST MRS DR8."""
SQUARE = 8192
"""Rows of the square matrices whose product is the peak."""
MOST_APART = {"words": 0.0, "gaussians": 5e-6, "float32": 2e-4, "mixed": 0.1, "captured": 1e-6}
"""Largest differences that pass: of words as counts, of Gaussians, and of probabilities: in each precision from the
CPU's (which rounds to bfloat16 elsewhere in its sums), and from the same steps without a graph."""

Arrays = dict[str, NDArray[np.float32]]


def networks(config: NetworkConfig, count: int) -> list[Network]:
    """Random networks whose normalisations have seen something, and whose probabilities spread."""
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = Network(config).train()
        flux = {arm: 1.0 + 0.1 * torch.randn(64, config.pixels_of(arm)) for arm in ARMS}
        with torch.no_grad():
            network(flux)
            for head, logits in network.eval()(flux).items():
                network.heads[head].last.weight /= logits.std(dim=0)[:, None]
        made.append(network)
    return made


def exposures(config: NetworkConfig, count: int) -> tuple[Arrays, Arrays, NDArray[np.int64]]:
    """Flux, error and keys."""
    rng = np.random.default_rng(0)
    flux = {arm: rng.normal(1.0, 0.1, (count, config.pixels_of(arm))).astype(np.float32) for arm in ARMS}
    sigma = {arm: np.full_like(values, 0.05) for arm, values in flux.items()}
    return flux, sigma, np.stack([np.arange(count) + 10**8, np.full(count, 84_000_000)], axis=1)


def noise_apart(device: str, spectra: int = 3, pixels: int = PIXELS[0]) -> dict[str, float]:
    """How many words differ from NumPy's, and by how much Gaussians do at most."""
    keys, seed = np.stack([np.arange(spectra) - 1, np.full(spectra, 84_000_000)], axis=1), 2**64 - 3
    stream, n_words = SURVEY_STREAMS["R"], (pixels + 1) // 2
    asked = torch.from_numpy(keys).to(device), stream, torch.tensor(philox.signed(seed), device=device), DRAWS
    words = philox.words(*asked, n_words).cpu().numpy().view(np.uint64)
    expected = np.array(
        [
            [noise.stream(obsid, lmjm, stream, draw, seed).random_raw(n_words) for draw in range(DRAWS)]
            for obsid, lmjm in keys.tolist()
        ]
    )
    gaussians = philox.normal(*asked, pixels).cpu().numpy()
    apart = np.abs(gaussians - noise.normal(keys, stream, seed, DRAWS, pixels))
    return {"words": float((words != expected).sum()), "gaussians": float(apart.max())}


def probabilities_apart(
    device: str, config: NetworkConfig, members: int = 2, count: int = 8, n_draws: int = DRAWS
) -> dict[str, float]:
    """Largest differences of probabilities from the CPU's, by precision, and between a graph and its steps."""
    made, some = networks(config, members), exposures(config, count)
    pixels = {arm: config.pixels_of(arm) for arm in ARMS}
    apart = {"captured": 0.0}
    with torch.inference_mode():
        for precision in PRECISIONS:
            here, there = ([InferenceMember(each, precision, where) for each in made] for where in ("cpu", device))
            host = HostTile(here, pixels, n_draws)
            parts = [
                host(*({arm: each[arm][row : row + 1] for arm in ARMS} for each in some[:2]), some[2][row : row + 1], 5)
                for row in range(count)
            ]
            expected = {head: np.concatenate([part[head] for part in parts], axis=1) for head in parts[0]}
            tiles = (DeviceTile(there, pixels, n_draws, device, count, capture=capture) for capture in (True, False))
            graph, steps = (tile(*some, 5) for tile in tiles)
            apart[precision] = max(float(np.abs(graph[head] - expected[head]).max()) for head in expected)
            between = max(float(np.abs(graph[head] - steps[head]).max()) for head in expected)
            apart["captured"] = max(apart["captured"], between)
    return apart


def seconds(step: Callable[[], object], repeats: int) -> float:
    """Wall-clock time of a step, the least of repeats after two to warm up; the GPU is waited for."""
    least = np.inf
    for turn in range(repeats + 2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step()
        torch.cuda.synchronize()
        if turn >= 2:
            least = min(least, time.perf_counter() - began)
    return float(least)


def noise_of(keys: Tensor, seed: Tensor) -> Callable[[], object]:
    """The noise of both arms of exposures, step by step, without a graph."""
    arms = tuple(zip(ARMS, PIXELS, strict=True))
    return lambda: [philox.normal(keys, SURVEY_STREAMS[arm], seed, DRAWS, pixels) for arm, pixels in arms]


def speed(config: NetworkConfig) -> dict[str, object]:
    """Times of tiles, of the noise and of the peak; hours for DR8."""
    device, made = "cuda", networks(config, MEMBERS)
    pixels = {arm: config.pixels_of(arm) for arm in ARMS}
    square = torch.randn(SQUARE, SQUARE, device=device, dtype=torch.bfloat16)
    peak = 2.0 * SQUARE**3 / seconds(lambda: square @ square, 20)
    told: dict[str, object] = {"bf16_peak_tflops": 1e-12 * peak}
    best: dict[str, float] = {}
    for precision in PRECISIONS:
        members = [InferenceMember(each, precision, device) for each in made]
        work = DRAWS * sum(member.operations for member in members)
        for count in TILES:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            some = exposures(config, count)
            tile = DeviceTile(members, pixels, DRAWS, device, count)
            each = seconds(lambda tile=tile, some=some: tile(*some, 5), 10) / count  # type: ignore[misc]
            replay = seconds(tile._graph.replay, 10) / count  # type: ignore[union-attr]
            share, memory = work / replay / peak, torch.cuda.max_memory_allocated() / 2**30
            print(
                f"{precision}, tiles of {count}: {1e6 * each:.1f} us an exposure, {1e6 * replay:.1f} on the GPU "
                f"({share:.1%} of the bf16 peak), {memory:.2f} GiB",
                flush=True,
            )
            told[f"{precision}_{count}"] = {"us": 1e6 * each, "us_gpu": 1e6 * replay, "share": share, "gib": memory}
            best[precision] = min(best.get(precision, np.inf), each)
            if precision == "mixed":
                keys, seed = torch.from_numpy(some[2]).to(device), torch.tensor(5, device=device)
                told[f"noise_{count}_us"] = 1e6 / count * seconds(noise_of(keys, seed), 5)
            del tile
    used: PrecisionName = "mixed" if has_bfloat16(device) else "float32"
    ensemble = Ensemble(
        tuple(InferenceMember(each, used, device) for each in made), config.penalties, pixels, "random", used, device
    )
    some = exposures(config, 2048)
    whole = seconds(lambda: ensemble.percentiles(*some), 2) / 2048
    told["us_with_percentiles"] = 1e6 * whole
    told["hours_dr8"] = {
        **{precision: DR8 * value / 3600 for precision, value in best.items()},
        f"{used}, with percentiles, as the survey calls it": DR8 * whole / 3600,
    }
    return told


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not torch.cuda.is_available():
        print(f"no GPU: torch {torch.__version__} finds none, and nothing is measured")
        print(json.dumps({"name": "gpu", "gpu": None}))
        return
    began = time.perf_counter()
    config = NetworkConfig(PIXELS)
    apart = {**noise_apart("cuda"), **probabilities_apart("cuda", config)}
    wrong = [name for name, value in apart.items() if not value <= MOST_APART[name]]
    for name, value in apart.items():
        print(f"largest difference, {name}: {value:.2g} (passes up to {MOST_APART[name]:g})", flush=True)
    told = speed(config)
    result = {
        "name": "gpu",
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "apart": apart,
        "wrong": wrong,
        **told,
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps(result))
    if wrong:
        sys.exit(f"values differ from the CPU's: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
