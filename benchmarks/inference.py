"""Ensemble inference per spectrum against the literal reading of the paper, on one thread.

The literal reading (Zhang et al. 2022, section 3.3): per spectrum, duplicate it 20 times, add noise, let each of five
members predict; plain float32 torch. Ours: counter-based noise shared by the members, normalisations folded, bfloat16
after the first convolution where the CPU has it. Random weights of the default architecture; the blue arm's pixels.

    python benchmarks/inference.py
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from twinlines.models import checkpoint
from twinlines.models.ensemble import PERCENTILES, Ensemble
from twinlines.models.network import Network, NetworkConfig

PIXELS = 3347
MEMBERS = 5
DRAWS = 20
SPECTRA = 200


def make_members() -> list[Network]:
    members = []
    for member in range(MEMBERS):
        torch.manual_seed(member)
        network = Network(NetworkConfig(PIXELS))
        network.train()
        network(1.0 + 0.05 * torch.randn(64, PIXELS))  # gives the normalisations something to fold
        members.append(network.eval())
    return members


def literal(
    members: list[Network], flux: NDArray[np.float32], sigma: NDArray[np.float32], keys: NDArray[np.int64]
) -> NDArray[np.float32]:
    del keys
    rows = []
    with torch.no_grad():
        for one_flux, one_sigma in zip(torch.from_numpy(flux), torch.from_numpy(sigma), strict=True):
            copies = one_flux.repeat(DRAWS, 1)
            noisy = copies + one_sigma * torch.randn(DRAWS, PIXELS)
            values = torch.cat([member.probability(noisy) for member in members]).numpy()
            rows.append(np.percentile(values, PERCENTILES))
    return np.asarray(rows, np.float32)


def main() -> None:
    torch.set_num_threads(1)
    members = make_members()
    rng = np.random.default_rng(0)
    flux = rng.normal(1.0, 0.05, (SPECTRA, PIXELS)).astype(np.float32)
    sigma = np.full_like(flux, 0.03)
    keys = np.stack([np.arange(SPECTRA) + 10**8, np.full(SPECTRA, 84_000_000)], axis=1)

    with tempfile.TemporaryDirectory() as folder:
        for number, network in enumerate(members, 1):
            header = checkpoint.Header("B", 16, number, 0, "random weights")
            checkpoint.save(Path(folder) / f"{header.stem}{checkpoint.SUFFIX}", network, header)
        ensembles = {
            precision: Ensemble.load(Path(folder), precision=precision, arms=("B",))
            for precision in ("float32", "mixed")
        }

    literal(members, flux[:3], sigma[:3], keys[:3])
    began = time.perf_counter()
    reference = literal(members, flux, sigma, keys)
    baseline = (time.perf_counter() - began) / SPECTRA
    print(f"literal: {1e3 * baseline:.2f} ms a spectrum")

    seconds, medians = {}, {}
    for name, ensemble in ensembles.items():
        ensemble.percentiles("B", flux[:3], sigma[:3], keys[:3])
        began = time.perf_counter()
        medians[name] = ensemble.percentiles("B", flux, sigma, keys)[16][:, 2]
        seconds[name] = (time.perf_counter() - began) / SPECTRA
        print(f"{name} (in use: {ensemble.precision}): {1e3 * seconds[name]:.2f} ms a spectrum")
    print(f"largest difference of medians, mixed - float32: {np.abs(medians['mixed'] - medians['float32']).max():.2e}")
    print(f"largest difference of medians, float32 - literal: {np.abs(medians['float32'] - reference[:, 2]).max():.2e}")

    result = {
        "name": "inference",
        "value": 1e3 * seconds["mixed"],
        "unit": "ms/spectrum",
        "baseline": 1e3 * baseline,
        "ratio": baseline / seconds["mixed"],
        "float32_ms": 1e3 * seconds["float32"],
        "precision": ensembles["mixed"].precision,
        "members": MEMBERS,
        "draws": DRAWS,
        "threads": 1,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
