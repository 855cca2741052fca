"""Preprocessing per spectrum against the version of before, and against the straightforward one with numpy and scipy.

Run ``python benchmarks/preprocess.py``; one thread, generated spectra on the survey's native sampling. ``batched/`` has
the version of before: tensors of 64 spectra, which give the same results. The reference is what one would write from
the authors' description: a loop over spectra, ``scipy.signal.medfilt``, ``numpy.convolve`` and
``scipy.interpolate.make_smoothing_spline``. It despikes by the authors' recipe only; ours does more. The first call of
ours compiles, or loads what is compiled; how long that takes is printed, too.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import make_smoothing_spline
from scipy.signal import medfilt

from twinlines.pipeline.arms import ARMS, NATIVE_PIXELS, Arm, doppler_factor
from twinlines.pipeline.spectra.preprocess import CUSHION, observe, to_rest_frame

Array = NDArray[np.float64]
Columns = dict[str, NDArray[np.generic]]

LAYOUT = {"B": (4894.0, 0.124, 0.100), "R": (6270.0, 0.145, 0.116)}
"""First wavelength, Angstrom, and first and last pixel step, Angstrom, of each arm on the detector."""


def native_wavelength(arm: Arm) -> Array:
    """Wavelengths of an arm's native pixels, Angstrom, ascending."""
    start, first, last = LAYOUT[arm.name]
    steps = np.linspace(first, last, NATIVE_PIXELS - 1)
    return np.concatenate([[start], start + np.cumsum(steps)])


def generate(arm: Arm, rows: int, seed: int) -> dict[str, NDArray[np.generic]]:
    """Stored columns of ``rows`` exposures: blaze, absorption lines of the instrument's width, noise, cosmic rays."""
    rng = np.random.default_rng(seed)
    x = native_wavelength(arm)
    unit = (x - x[0]) / (x[-1] - x[0])
    flux, ivar = np.empty((rows, x.size)), np.empty((rows, x.size))
    for row in range(rows):
        blaze = rng.uniform(300.0, 6000.0) * (0.5 + 2.0 * unit * (1.1 - unit)) * (1.0 + 0.1 * np.sin(9.0 * unit))
        centres, depths = rng.uniform(x[0], x[-1], 150), 0.6 * rng.beta(1.0, 3.0, 150)
        width = centres / 7500.0 / 2.3548
        lines = np.exp(-0.5 * ((x[:, None] - centres) / width) ** 2) @ depths
        clean = blaze * np.exp(-lines)
        sigma = np.sqrt(clean + 900.0)
        flux[row] = clean + rng.normal(size=x.size) * sigma
        for hit in rng.integers(CUSHION, x.size - CUSHION, 4):
            flux[row, hit : hit + rng.integers(1, 4)] += rng.uniform(1.0, 10.0) * blaze[hit]
        ivar[row] = sigma**-2.0
    loglam = np.broadcast_to(np.log10(x), flux.shape)
    order = slice(None, None, -1) if arm.name == "R" else slice(None)
    return {
        "flux": flux[:, order].astype(np.float32),
        "ivar": ivar[:, order].astype(np.float32),
        "loglam": loglam[:, order].astype(np.float32),
        "mask": np.zeros(flux.shape, dtype=np.uint8),
    }


def gaussian(taps: int, deviation: float) -> Array:
    """Weights of a normalised Gaussian filter."""
    weights = np.exp(-0.5 * ((np.arange(taps) - taps // 2) / deviation) ** 2)
    return np.asarray(weights / weights.sum())


def reference_despike(wavelength: Array, flux: Array) -> tuple[Array, NDArray[np.bool_]]:
    """The authors' recipe for one spectrum: repaired flux, and which pixels were repaired."""
    flux, ever = flux.copy(), np.zeros(flux.size, dtype=bool)
    for attempt in range(5):
        residual = flux - np.convolve(medfilt(flux, 21), gaussian(5, 0.5), "same")
        scale = np.convolve(np.abs(residual), gaussian(51, 9.0), "same")
        bad = (residual > 4.0 * scale) | (residual < -8.0 * scale)
        if not bad.any() or attempt == 4:
            break
        bad = np.convolve(bad, np.ones(7), "same") > 0.5
        flux[bad] = np.interp(wavelength[bad], wavelength[~bad], flux[~bad])
        ever |= bad
    return flux, ever


def reference_continuum(wavelength: Array, flux: Array) -> Array:
    """The clipped smoothing spline of one spectrum; NaN where 10 pixels or fewer are usable."""
    usable = np.isfinite(flux) & (flux > 0.0)
    if usable.sum() <= 10:
        return np.full(flux.shape, np.nan)
    kept = usable
    centres = np.linspace(wavelength[0], wavelength[-1], int(np.ceil(np.ptp(wavelength) / 100.0)) + 1)
    for _ in range(2):
        residual = flux - make_smoothing_spline(wavelength[kept], flux[kept], lam=999_999.0)(wavelength)
        spread = [np.std(residual[kept & (np.abs(wavelength - centre) <= 100.0)]) for centre in centres]
        ratio = (residual - np.median(residual[usable])) / np.interp(wavelength, centres, spread)
        kept = kept & (ratio > -1.0) & (ratio < 4.0)
    return np.asarray(make_smoothing_spline(wavelength[kept], flux[kept], lam=999_999.0)(wavelength))


def reference_preprocess(
    arm: Arm, flux: Array, ivar: Array, loglam: Array, mask: Array, velocity: float
) -> tuple[Array, Array, int]:
    """One spectrum from stored columns to flux, sigma and bad pixels on the networks' grid."""
    order = np.argsort(loglam, kind="stable")
    wavelength, flux, sigma = 10.0 ** loglam[order], flux[order], ivar[order] ** -0.5
    # The spline wants strictly ascending abscissae; stored ones may be equal.
    wavelength = wavelength + 1e-9 * np.arange(wavelength.size)
    flux, repaired = reference_despike(wavelength, flux)
    keep = slice(CUSHION, -CUSHION)
    bad = ((mask[order] > 0) | repaired)[keep].astype(np.float64)
    wavelength, flux, sigma = wavelength[keep], flux[keep], sigma[keep]
    reference_continuum(wavelength, flux)  # the observed frame's, for the velocity
    rest = wavelength / doppler_factor(velocity)
    grid = arm.wavelength
    on_grid = np.interp(grid, rest, flux).clip(min=0.0)
    level = reference_continuum(grid, on_grid)
    n_bad = int((np.interp(grid, rest, bad) > 0.0).sum())
    return on_grid / level, np.interp(grid, rest, sigma) / level, n_bad


def milliseconds(work: Callable[[], object], spectra: int) -> float:
    """Processor time of one run, per spectrum."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / spectra * 1e3


def main(ours: int = 256, theirs: int = 24, repeats: int = 5) -> None:
    # As a script, this file's folder is on the path; its batched version is a package beside it.
    before = importlib.import_module("batched.preprocess")
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {"now": [], "before": [], "plain": [], "first": []}
    for arm in ARMS.values():
        columns = generate(arm, ours, seed=1)
        velocity = np.linspace(-300.0, 300.0, ours)

        def now(arm: Arm = arm, columns: Columns = columns, velocity: Array = velocity) -> None:
            to_rest_frame(arm, observe(arm, **columns), velocity)  # type: ignore[arg-type]

        def then(arm: Arm = arm, columns: Columns = columns, velocity: Array = velocity) -> None:
            before.to_rest_frame(arm, before.observe(arm, **columns), velocity)

        def one_by_one(arm: Arm = arm, columns: Columns = columns, velocity: Array = velocity) -> None:
            for row in range(theirs):
                spectrum = {name: values[row].astype(np.float64) for name, values in columns.items()}
                reference_preprocess(arm, **spectrum, velocity=float(velocity[row]))

        times["first"].append(milliseconds(now, 1))
        then()
        # In turn, and the least of each: other work on the machine slows down either.
        pairs = [(milliseconds(now, ours), milliseconds(then, ours)) for _ in range(repeats)]
        for name, values in zip(("now", "before"), zip(*pairs, strict=True), strict=True):
            times[name].append(min(values))
        times["plain"].append(milliseconds(one_by_one, theirs))
        print(arm.name, {name: f"{values[-1]:.3f} ms" for name, values in times.items()})
    value, baseline, plain = (float(np.mean(times[name])) for name in ("now", "before", "plain"))
    print(
        json.dumps(
            {
                "name": "preprocess",
                "value": round(value, 4),
                "unit": "ms of processor time per spectrum (one arm, one core)",
                "baseline": round(baseline, 4),
                "ratio": round(baseline / value, 2),
                "baseline_is": "the batched version of before, benchmarks/batched",
                "plain": round(plain, 4),
                "plain_ratio": round(plain / value, 2),
                "plain_is": "a loop over spectra with scipy's medfilt and make_smoothing_spline",
                "first_call_s": round(max(times["first"]) / 1e3, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
