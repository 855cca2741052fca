"""Velocities: how fast they are measured, and with ``--rotation`` how wrong they are for stars that rotate.

    python benchmarks/velocity.py [--spectra 256] [--literal 2]
    python benchmarks/velocity.py --rotation [--stars 32]

Spectra are of library stars at labels between its nodes, on the detector's pixels, with photon noise, cleaned and
normalised as a survey's. Time is the processor's, on one thread, of three in turn in this process: ours; the kernel
before templates rotated (``velocity_before.py``); and what one would write from the authors' description: for each
template and each of 201 velocities, ``numpy.interp`` of the template to the observed pixels, and Pearson's coefficient
(their coarse step alone, with the templates of before). The stars are those of a survey: nine in ten of vsini below
60 km/s.

With ``--rotation``: errors against the truth by vsini, type and S/N, before and after; what a template of the star's
own labels and vsini reaches, which no search can know; and how many spectra of slow stars change.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import velocity_before
from numpy.typing import NDArray
from torch import Tensor

from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName, doppler_factor, velocity_of_shift
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra import correlation, preprocess, velocity
from twinlines.pipeline.spectra.broadening import broaden_and_shift
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.spectra.gridding import to_grid
from twinlines.pipeline.spectra.templates import Templates, VelocityConfig
from twinlines.pipeline.synthesis import observing
from twinlines.pipeline.synthesis.light import Stars, component

Array = NDArray[np.float64]

TYPES = {"K": (3800.0, 5000.0), "G": (5000.0, 6000.0), "F": (6000.0, 7000.0), "A": (7000.0, 10000.0)}
"""Effective temperatures, K; half of the K stars are giants."""
VSINI = ((0.0, 60.0), (60.0, 120.0), (120.0, 200.0), (200.0, 300.0), (300.0, 400.0), (400.0, 500.0))
SNR = (10.0, 20.0, 50.0)
SAME = 0.02
"""Velocities that differ by less are the same, km/s."""


class Spectra(NamedTuple):
    """One arm of some exposures, as velocities take it."""

    wavelength: Tensor
    normalised: Tensor
    sigma: Tensor
    bad: Tensor


def labels_of(rng: np.random.Generator, library: Library, kind: str, count: int) -> Array:
    """Labels of stars of a type, inside the library."""
    low, high = TYPES[kind]
    labels: list[Array] = []
    while len(labels) < count:
        teff, feh = rng.uniform(low, high), rng.uniform(-1.0, 0.4)
        logg = rng.uniform(3.6, 4.5) if teff > 6000.0 else rng.uniform(3.5, 4.7)
        if teff < 5000.0:
            logg = rng.uniform(1.5, 3.0) if rng.random() < 0.5 else rng.uniform(4.4, 4.8)
        one = np.array([teff, logg, feh, np.clip(-0.4 * feh, 0.0, 0.4) + rng.normal(0.0, 0.05)])
        if not library.outside(one[None])[0]:
            labels.append(one)
    return np.array(labels)


def expose(name: ArmName, stars: Stars, library: Library, snr: float, rng: np.random.Generator) -> Spectra:
    """Exposures of stars, cleaned and normalised."""
    which, parts = ARMS[name], []
    for start in range(0, len(stars.vsini), 64):
        some = stars.take((np.arange(len(stars.vsini)) // 64) == start // 64)
        light = observing.native_light(which, component(which, library, some, whole=True).numpy())
        light *= 1000.0 / np.median(light, axis=1, keepdims=True)
        sigma = np.sqrt(1000.0 * light) / snr
        flux = light + sigma * rng.standard_normal(light.shape)
        loglam = np.broadcast_to(observing.native_loglam(which).astype(np.float32), light.shape).copy()
        single = flux.astype(np.float32), (sigma**-2.0).astype(np.float32), loglam, np.zeros(light.shape, np.uint8)
        seen = preprocess.observe(which, *single)
        parts.append(Spectra(seen.wavelength, seen.normalised, seen.normalised_sigma, seen.bad))
    return Spectra(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def ours(name: ArmName, spectra: Spectra, templates: Templates) -> velocity.Velocity:
    """Velocities as they are measured."""
    return velocity.measure(name, spectra.wavelength, spectra.normalised, spectra.sigma, templates, spectra.bad)


def literal(name: ArmName, spectra: Spectra, rows: int, library: Library) -> Array:
    """The coarse step of the authors' description, spectrum by spectrum, template by template, velocity by velocity."""
    which, labels = ARMS[name], np.array(velocity_before.default_templates())
    flux = torch.from_numpy(library.flux(name, labels[:, :4])).double()
    flux = broaden_and_shift(flux, torch.from_numpy(labels[:, 4]), torch.zeros(len(labels)))
    templates = normalise(torch.from_numpy(which.library_wavelength), flux)[0].numpy()
    speeds, found = np.arange(-1000.0, 1001.0, 10.0), np.empty(rows)
    for row in range(rows):
        x, y = spectra.wavelength[row].numpy(), spectra.normalised[row].double().numpy()
        inside = (x >= which.wavelength[0]) & (x <= which.wavelength[-1]) & (y > 0.0) & (y < 3.0)
        x, y = x[inside], y[inside]
        best = -1.0
        for template in templates:
            for speed in speeds:
                moved = np.interp(x, which.library_wavelength * doppler_factor(float(speed)), template)
                coefficient = np.corrcoef(y, moved)[0, 1]
                if coefficient > best:
                    best, found[row] = coefficient, speed
    return found


def milliseconds(work: Callable[[], object], spectra: int) -> float:
    """Processor time of one run, per spectrum."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / spectra * 1e3


def speed(library: Library, spectra: int, few: int, repeats: int = 5) -> dict[str, Any]:
    """Time of all three; runs take turns, and the fastest of each counts."""
    rng = np.random.default_rng(1)
    labels = np.concatenate([labels_of(rng, library, kind, spectra // len(TYPES)) for kind in TYPES])
    vsini = np.where(
        rng.random(len(labels)) < 0.9, rng.uniform(0.0, 60.0, len(labels)), rng.uniform(60, 300, len(labels))
    )
    stars = Stars(labels, np.ones(len(labels)), vsini, rng.uniform(-150.0, 150.0, len(labels)))
    templates, before = Templates.default(), velocity_before.prepare(library)
    times: dict[str, list[float]] = {"ours": [], "before": [], "literal": []}
    for name in ARM_NAMES:
        seen = expose(name, stars, library, 30.0, rng)
        taken: list[tuple[float, float]] = []
        for _ in range(repeats):
            first = milliseconds(lambda: ours(name, seen, templates), len(labels))  # noqa: B023
            second = milliseconds(lambda: velocity_before.measure(before[name], *seen), len(labels))  # noqa: B023
            taken.append((first, second))
        new, old = np.array(taken).min(axis=0)
        slow = milliseconds(lambda: literal(name, seen, few, library), few)  # noqa: B023
        for kind, value in zip(times, (new, old, slow), strict=True):
            times[kind].append(float(value))
        print(f"{name}: {new:.3f} ms a spectrum, before {old:.3f} ms, literally {slow:.0f} ms")
    value, baseline, slow = (float(np.mean(values)) for values in times.values())
    return {
        "name": "velocity",
        "value": round(value, 4),
        "unit": "ms of processor time per spectrum (one arm, one core)",
        "baseline": round(baseline, 4),
        "ratio": round(baseline / value, 2),
        "baseline_is": "the kernel before templates rotated, with 130 templates",
        "literal": round(slow, 1),
        "ratio_to_literal": round(slow / value, 1),
        "templates": len(templates.config.templates),
    }


def own(
    stars: Stars, seen: dict[tuple[ArmName, float], Spectra], library: Library
) -> dict[tuple[ArmName, float], Array]:
    """Velocities by a template of each star's own labels and vsini, km/s, for each arm and S/N."""
    found = {key: np.empty(len(stars.vsini)) for key in seen}
    for start in range(0, len(stars.vsini), 64):
        rows = slice(start, start + 64)
        those = np.column_stack([stars.labels, np.maximum(stars.vsini, 1.0)])[rows]
        # The first, that no star is like, stands in for templates that do not rotate.
        config = VelocityConfig(templates=((3500.0, 5.0, 0.0, 0.0, 0.0), *map(tuple, those.tolist())))
        arms = Templates.build(library, config).arms
        for (name, snr), spectra in seen.items():
            prepared, some = arms[name], Spectra(*(column[rows] for column in spectra))
            good = ~some.bad & some.sigma.isfinite() & (some.normalised > 0.0) & (some.normalised < 3.0)
            gridded = to_grid(prepared.arm, some.wavelength, some.normalised, good, 0.5)
            product = correlation.transform(prepared, gridded.flux) * prepared.transform[1:].conj()
            whole = torch.fft.irfft(product, n=prepared.size).double()
            height = torch.cat([whole[:, -prepared.lags :], whole[:, : prepared.lags + 1]], 1)
            height = height * torch.exp(-0.5 * prepared.log_variance[1:])
            top = height.argmax(1, keepdim=True).clamp(1, height.shape[1] - 2)
            low, centre, high = (height.gather(1, top + step)[:, 0] for step in (-1, 0, 1))
            shift = top[:, 0] - prepared.lags + (high - low) / (2.0 * (2.0 * centre - low - high))
            found[name, snr][rows] = velocity_of_shift(shift.numpy())
    return found


def show(name: str, snr: float, rows: dict[str, Array], groups: NDArray[np.int64]) -> None:
    """Median and 90th percentile of the absolute error by vsini and type, and the part without a velocity."""
    for kind, errors in rows.items():
        for place, (low, high) in enumerate(VSINI):
            cells = []
            for number in range(len(TYPES)):
                cell = np.abs(errors[(groups[:, 0] == number) & (groups[:, 1] == place)])
                known = cell[np.isfinite(cell)]
                middle, most = np.percentile(known, [50, 90]) if known.size else (np.nan, np.nan)
                cells.append(f"{middle:6.1f} {most:6.1f} {100 * (1 - known.size / cell.size):3.0f}%")
            print(f"{name} {snr:3.0f} {kind:7} {low:3.0f}-{high:3.0f}  " + "  ".join(cells))


def rotation(library: Library, count: int) -> dict[str, Any]:
    """Errors against the truth, before and after."""
    rng = np.random.default_rng(5)
    labels, vsini, groups = [], [], []
    for number, kind in enumerate(TYPES):
        for place, (low, high) in enumerate(VSINI):
            labels.append(labels_of(rng, library, kind, count))
            vsini.append(rng.uniform(low, high, count))
            groups.append(np.tile([[number, place]], (count, 1)))
    group = np.concatenate(groups)
    true = rng.uniform(-150.0, 150.0, len(group))
    stars = Stars(np.concatenate(labels), np.ones(len(group)), np.concatenate(vsini), true)
    templates, before = Templates.default(), velocity_before.prepare(library)
    fast, slow = stars.vsini > 120.0, stars.vsini < 60.0
    medians: dict[str, dict[str, float]] = {"before": {}, "after": {}, "own": {}}
    changed, others = [], []
    print(
        "median and 90th percentile of |error|, km/s, and spectra without a velocity: of " + ", ".join(TYPES) + " stars"
    )
    seen = {(name, snr): expose(name, stars, library, snr, rng) for name in ARM_NAMES for snr in SNR}
    best = own(stars, seen, library)
    for (name, snr), spectra in seen.items():
        found = ours(name, spectra, templates)
        old, template = velocity_before.measure(before[name], *spectra)
        errors = {"before": old - true, "after": found.velocity - true, "own": best[name, snr] - true}
        show(name, snr, errors, group)
        for kind, values in errors.items():
            medians[kind][f"{name} {snr:g}"] = round(float(np.nanmedian(np.abs(values[fast]))), 2)
        both = slow & np.isfinite(old) & np.isfinite(found.velocity)
        changed.append(np.abs(old - found.velocity)[both] > SAME)
        others.append(before[name].labels[template[both], 0] != found.teff[both])
    value, baseline = (float(np.mean(list(medians[kind].values()))) for kind in ("after", "before"))
    return {
        "name": "velocity of rotators",
        "value": round(value, 2),
        "unit": "km/s, median absolute error above 120 km/s of vsini, mean over S/N 10, 20, 50 and both arms",
        "baseline": round(baseline, 2),
        "ratio": round(baseline / value, 2),
        "baseline_is": "the kernel before templates rotated",
        **{f"median_{kind}": values for kind, values in medians.items()},
        "slow_changed": round(float(np.concatenate(changed).mean()), 4),
        "slow_other_teff": round(float(np.concatenate(others).mean()), 4),
        "stars": len(group),
    }


def main() -> None:
    """Print tables, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rotation", action="store_true", help="errors of stars that rotate, not times")
    parser.add_argument("--spectra", type=int, default=256, help="spectra of an arm that are timed")
    parser.add_argument("--literal", type=int, default=2, help="and of them, literally")
    parser.add_argument("--stars", type=int, default=32, help="stars of each type and range of vsini")
    options = parser.parse_args()
    torch.set_num_threads(1)
    library = Library.load()
    result = rotation(library, options.stars) if options.rotation else speed(library, options.spectra, options.literal)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
