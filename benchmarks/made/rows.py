"""Rows of a survey that are made up: which exposure a row is follows from its number alone, and what is said of it.

For measurements of what handles rows, whatever computed them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.schema import CATALOG_PENALTIES, HEADS, RESULTS
from twinlines.pipeline.storage import stores
from twinlines.pipeline.storage.chunks import names_checksum

TASK_ROWS = 4096
VISITS = 3
"""Exposures of a file, as in the survey's plates."""

FIBRES, SPECTROGRAPHS = 250, 16
STARS = 700_000
POOL = 16  # tasks of which verdicts are made up

_ODD = np.uint64(0x9E3779B97F4A7C15)


def _scattered(number: NDArray[np.int64], stream: int) -> NDArray[np.uint64]:
    """64 bits that look random, (row,), the same for a row whoever asks (splitmix64)."""
    bits = (number.astype(np.uint64) * np.uint64(4) + np.uint64(stream + 1)) * _ODD
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))


def keys_of(number: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Columns of what is known of exposures before they are judged, (row,) each.

    Stars stand all over the survey's sky, several files of each; rows in the order of observation.
    """
    file = number // VISITS
    star = file * 7919 % STARS
    off_ra, off_dec = (8e-5 * (_scattered(number, stream) / 2.0**64 - 0.5) for stream in (1, 2))
    return {
        "obsid": 100_000_000 + file,
        "lmjm": 83_000_000 + (number % VISITS) * 25 + file // FIBRES * 60,
        "bjdmid": 2_457_000.5 + number / 3000.0,
        "lmjd": 57_000 + number // 9000,
        "planid": np.array([f"HD{plan:06d}N{plan % 90:02d}V01" for plan in (file // 3000).tolist()], object),
        "spid": 1 + file // FIBRES % SPECTROGRAPHS,
        "fiberid": 1 + file % FIBRES,
        "ra": (star * 137.50776405 + off_ra) % 360.0,
        "dec": np.degrees(np.arcsin((star * 0.6180339887) % 1.0 * 1.04 - 0.17)) + off_dec,
        "content_hash": _scattered(number, 0),
    }


def verdicts_of(rows: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """What a task says of its exposures; one in thirty is a binary."""
    columns: dict[str, NDArray[Any]] = {"bprp0": np.full(rows, np.nan)}
    binary = rng.random(rows) < 1.0 / 30.0
    for head in HEADS:
        for penalty in CATALOG_PENALTIES:
            level = np.where(binary, 0.9, 0.04)[:, np.newaxis] * rng.uniform(0.7, 1.0, (rows, 1))
            columns[f"pb_pct_{head}_{penalty}"] = np.sort(level * rng.uniform(0.6, 1.0, (rows, 5)), axis=1)
    for arm in ARM_NAMES:
        columns |= {
            f"snr_{arm}": rng.gamma(2.0, 20.0, rows),
            f"rv_obs_{arm}": rng.normal(0.0, 40.0, rows),
            f"rv_obs_err_{arm}": rng.gamma(2.0, 0.5, rows),
            f"rv_teff_{arm}": 250.0 * rng.integers(15, 40, rows),
            f"ccfmax_{arm}": rng.uniform(0.3, 1.0, rows),
            f"specflag_{arm}": np.ones(rows, bool),
            f"npixbad_{arm}": rng.poisson(12.0, rows),
            f"noise_{arm}": rng.normal(0.9, 0.1, rows),
            f"misfit_{arm}": rng.gamma(2.0, 0.2, rows),
            f"quality_{arm}": np.where(rng.random(rows) < 0.02, 256, 0) + np.where(rng.random(rows) < 0.05, 128, 0),
        }
    return columns


def entries_of(packed: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@lru_cache(maxsize=POOL)
def _verdicts(number: int) -> Mapping[str, bytes]:
    """Entries of one of the results that repeat, a whole task of it."""
    columns = verdicts_of(TASK_ROWS, np.random.default_rng(number))
    return entries_of(stores.pack(RESULTS, RESULTS.dataset(columns, TASK_ROWS)))


def packed_result(start: int, stop: int) -> bytes:
    """The file of a task's result, as :func:`twinlines.pipeline.storage.stores.pack` makes it.

    Verdicts repeat after some tasks, packed as they are; only keys and positions are packed anew.
    """
    own, rows = keys_of(np.arange(start, stop)), stop - start
    if rows != TASK_ROWS:
        verdicts = verdicts_of(rows, np.random.default_rng(start))
        return stores.pack(RESULTS, RESULTS.dataset(verdicts | own, rows))
    keys = replace(RESULTS, variables={name: RESULTS.variables[name] for name in own}, coords={}, since={})
    packed = entries_of(stores.pack(keys, keys.dataset(own, rows)))
    # Of the root alone, the task's own says less than the pool's.
    entries = {**_verdicts(start // TASK_ROWS % POOL), **{name: data for name, data in packed.items() if "/" in name}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(name), entries[name])
        archive.comment = names_checksum(entries)
    return buffer.getvalue()
