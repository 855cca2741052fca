"""Orbits of a survey's stars as they are stored: rows of solutions, posterior samples, and the best orbit's columns.

Stands between :mod:`twinlines.pipeline.binaries.orbits`, which knows no store, and the stores, which know no orbit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.components.epochs import Epochs
from twinlines.pipeline.binaries.fits.store import FitsError, fits_folder
from twinlines.pipeline.binaries.orbits.prior import Ephemeris
from twinlines.pipeline.binaries.orbits.summary import ELEMENTS, Elements, Orbit
from twinlines.pipeline.binaries.schema import ORBIT_SAMPLES, ORBITS
from twinlines.pipeline.storage import stores

ORBITS_STEM, SAMPLES_STEM = "orbits", "orbit_samples"
"""Kinds of the stores, beside the fits."""

SolutionColumns = Mapping[str, NDArray[Any]]
"""Columns by their names."""

_SAMPLE = "sample."  # before the names of samples' columns in one star's answer
_OF_TABLE = {
    **{name: name for element in ELEMENTS for name in (element, f"{element}_error")},
    **{name: name for name in ("modes", "mode_probability", "jitter")},
    "orbit_chi2": "obj_func",
    "orbit_freedom": "freedom",
    "orbit_status": "flags",
}
"""Columns of the table of stars, and those of the solutions that they are."""


def digest_of(epochs: Epochs, exchange: NDArray[np.float64]) -> str:
    """A hash of all that decides an orbit but for settings: velocities, and how sure their order is; 64 digits."""
    digest = hashlib.sha256()
    for values in (epochs.time, epochs.velocity, epochs.covariance, epochs.resolved, exchange):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def short(digest: str) -> int:
    """The first 64 bits of a hash: ``velocities_hash``."""
    return int(digest[:16], 16)


def columns_of(orbit: Orbit, ephemeris: Ephemeris | None = None) -> dict[str, NDArray[Any]]:
    """One star's rows of :data:`.schema.ORBITS`, without what names the star; and its samples, with a prefix."""
    rows = max(len(orbit.solutions), 1)
    nan = float("nan")
    alike = {
        "modes": orbit.modes,
        "rv_n_obs_primary": orbit.epochs,
        "rv_n_obs_secondary": orbit.epochs,
        "rv_n_nights": orbit.nights,
        "freedom": orbit.freedom,
        "jitter": orbit.jitter,
        "effective_samples": orbit.effective,
        "flags": int(orbit.status),
        "ephemeris_period": nan if ephemeris is None else ephemeris.period,
        **{f"limit_{item.name}": getattr(orbit.limits, item.name) for item in fields(orbit.limits)},
    }
    columns = {name: np.full(rows, value) for name, value in alike.items()}
    columns["solution_id"] = np.arange(rows)
    told = {"mode_probability": [each.probability for each in orbit.solutions]}
    told["obj_func"] = [each.chi2 for each in orbit.solutions]
    for name in ELEMENTS:
        told[name] = [float(getattr(each.best, name)) for each in orbit.solutions]
        told[f"{name}_error"] = [each.error[name] for each in orbit.solutions]
    columns |= {name: np.array(values or [nan], np.float64) for name, values in told.items()}
    if orbit.samples is not None and orbit.solution is not None:
        columns[f"{_SAMPLE}solution_id"] = orbit.solution
        for item in fields(Elements):
            columns[f"{_SAMPLE}{item.name}"] = getattr(orbit.samples, item.name)
    return columns


@dataclass(frozen=True)
class Solutions:
    """Solutions of many stars, put together."""

    orbits: SolutionColumns
    """Of :data:`.schema.ORBITS`."""
    samples: SolutionColumns
    """Of :data:`.schema.ORBIT_SAMPLES`."""
    sampled: int
    """Stars whose samples are kept."""


def together(
    answers: Sequence[SolutionColumns], obsid: NDArray[np.int64], hashes: NDArray[np.uint64], most: int
) -> Solutions:
    """Put together what :func:`columns_of` said of each star.

    Parameters
    ----------
    answers, obsid, hashes
        For each star; ``hashes`` are of its velocities.
    most
        Stars whose samples are kept, at most: those whose best period is likeliest, of equals those with more epochs.
    """
    sizes = np.array([len(answer["solution_id"]) for answer in answers], np.int64)
    columns: dict[str, NDArray[Any]] = {"obsid": np.repeat(obsid, sizes), "velocities_hash": np.repeat(hashes, sizes)}
    for name, variable in ORBITS.variables.items():
        if name not in columns:
            columns[name] = _joined([answer[name] for answer in answers], variable.dtype)
    has = [place for place, answer in enumerate(answers) if f"{_SAMPLE}period" in answer]
    has.sort(
        key=lambda place: (
            -float(answers[place]["mode_probability"][0]),
            -int(answers[place]["rv_n_obs_primary"][0]),
            int(obsid[place]),
        )
    )
    kept = sorted(has[:most])
    of_star = np.array([len(answers[place][f"{_SAMPLE}period"]) for place in kept], np.int64)
    samples: dict[str, NDArray[Any]] = {"obsid": np.repeat(obsid[kept], of_star)}
    for name, variable in ORBIT_SAMPLES.variables.items():
        if name not in samples:
            samples[name] = _joined([answers[place][f"{_SAMPLE}{name}"] for place in kept], variable.dtype)
    return Solutions(columns, samples, len(kept))


def _joined(parts: Sequence[NDArray[Any]], dtype: str) -> NDArray[Any]:
    return np.concatenate([np.empty(0), *parts]).astype(dtype)


def publish(folder: Path, solutions: Solutions, about: Mapping[str, object]) -> Path:
    """Let solutions be those of a folder of fits, samples first; returns the solutions' store."""
    samples = numbered.put(
        *(folder, SAMPLES_STEM, ORBIT_SAMPLES, len(solutions.samples["obsid"])),
        *(lambda name: solutions.samples[name], about),
    )
    return numbered.put(
        *(folder, ORBITS_STEM, ORBITS, len(solutions.orbits["obsid"])),
        *(lambda name: solutions.orbits[name], {**about, "samples": samples.name}),
    )


def table_columns(folder: Path, hashes: NDArray[np.uint64]) -> dict[str, NDArray[Any]]:
    """Columns of the table of stars for their best orbits: of those whose velocities were sampled, and are the same.

    Parameters
    ----------
    folder
        Of the fits.
    hashes
        Of the velocities of each star.

    Raises
    ------
    StoreError
        If the solutions are damaged.
    """
    path = numbered.newest(folder, ORBITS_STEM)
    if path is None:
        return {}
    return best_columns(stores.read_columns(path, ("velocities_hash", "solution_id", *_OF_TABLE.values())), hashes)


def best_columns(orbits: SolutionColumns, hashes: NDArray[np.uint64]) -> dict[str, NDArray[Any]]:
    """Columns of the table of stars, from those of solutions; missing for a star that has none."""
    first = np.flatnonzero(orbits["solution_id"] == 0)
    place = {int(value): int(row) for value, row in zip(orbits["velocities_hash"][first], first, strict=True)}
    rows = np.array([place.get(int(value), -1) for value in hashes], np.int64)
    there = rows >= 0
    columns = {}
    for name, stored in _OF_TABLE.items():
        values = orbits[stored]
        columns[name] = np.full(len(rows), np.nan if values.dtype.kind == "f" else 0, values.dtype)
        columns[name][there] = values[rows[there]]
    return columns


def open_orbits(survey: str | Path) -> xr.Dataset:
    """Open the orbits of a survey's stars: a row for each solution, those of a star together, the likeliest first.

    Parameters
    ----------
    survey
        Folder of the survey.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.binaries.schema.ORBITS`.

    Raises
    ------
    FitsError
        If the survey has none, or they are damaged.

    Examples
    --------
    >>> import twinlines as tw
    >>> orbits = tw.open_orbits("S")  # doctest: +SKIP
    >>> orbits.period, orbits.mode_probability  # doctest: +SKIP
    """
    advice = f"'twinlines binaries orbits --survey {survey}' samples them"
    none, again = f"{survey} has no orbits yet; {advice}", f"{advice} again"
    folder = fits_folder(Path(survey))
    return numbered.open_newest(folder, ORBITS_STEM, ORBITS, none=none, again=again, refused=FitsError)[1]


def open_samples(survey: str | Path) -> xr.Dataset:
    """Open the posterior samples that belong to :func:`open_orbits`, those of a star together.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.binaries.schema.ORBIT_SAMPLES`.

    Raises
    ------
    FitsError
        If the survey has none, or they are damaged.
    """
    orbits = open_orbits(survey)
    path = fits_folder(Path(survey)) / str(orbits.attrs.get("samples"))
    try:
        return numbered.read(path, ORBIT_SAMPLES)
    except stores.StoreError as error:
        advice = f"'twinlines binaries orbits --survey {survey}' makes them again"
        raise FitsError(f"{survey}: {error}; {advice}") from error
