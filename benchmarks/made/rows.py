"""Rows of a survey that are made up: which exposure a row is follows from its number alone, and what is said of it.

For measurements of what handles rows, whatever computed them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.schema import CATALOG_PENALTIES, HEADS, RESULTS
from twinlines.pipeline.storage import stores
from twinlines.pipeline.storage.chunks import names_checksum

TASK_ROWS = 4096
VISITS = 3
"""Exposures of a file, as in the survey's plates."""

FIBRES, SPECTROGRAPHS = 250, 16
PLATE = FIBRES * SPECTROGRAPHS
STARS = 700_000
POOL = 16  # tasks of which verdicts are made up

_ODD = np.uint64(0x9E3779B97F4A7C15)


def _scattered(number: NDArray[np.int64], stream: int) -> NDArray[np.uint64]:
    """64 bits that look random, (row,), the same for a row whoever asks (splitmix64)."""
    bits = (number.astype(np.uint64) * np.uint64(4) + np.uint64(stream + 1)) * _ODD
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))


_KEYS: dict[str, Callable[[NDArray[np.int64]], NDArray[Any]]] = {
    "obsid": lambda number: 100_000_000 + number // VISITS,
    "lmjm": lambda number: 83_000_000 + (number % VISITS) * 25 + number // VISITS // FIBRES * 60,
    "bjdmid": lambda number: 2_457_000.5 + number / 3000.0,
    "lmjd": lambda number: 57_000 + number // 9000,
    "planid": lambda number: np.array([_plan(plan) for plan in (number // VISITS // PLATE).tolist()], object),
    "spid": lambda number: 1 + number // VISITS // FIBRES % SPECTROGRAPHS,
    "fiberid": lambda number: 1 + number // VISITS % FIBRES,
    "ra": lambda number: (_star(number) * 137.50776405 + _offset(number, 1)) % 360.0,
    "dec": lambda number: np.degrees(np.arcsin(_star(number) * 0.6180339887 % 1.0 * 1.04 - 0.17)) + _offset(number, 2),
    "content_hash": lambda number: _scattered(number, 0),
}


def _plan(plate: int) -> str:
    return f"HD{plate:06d}N{plate % 90:02d}V01"


def _star(number: NDArray[np.int64]) -> NDArray[np.int64]:
    return number // VISITS * 7919 % STARS


def _offset(number: NDArray[np.int64], stream: int) -> NDArray[np.float64]:
    return 8e-5 * (_scattered(number, stream) / 2.0**64 - 0.5)


def keys_of(number: NDArray[np.int64], names: Iterable[str] = tuple(_KEYS)) -> dict[str, NDArray[Any]]:
    """What is known of exposures before they are judged, (row,) each; all of it, or some columns.

    Stars stand all over the survey's sky, several files of each; rows in the order of observation.
    """
    return {name: _KEYS[name](number) for name in names}


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
def _whole_task(number: int) -> Mapping[str, bytes]:
    """Entries of the file of one of the results that repeat."""
    start = number * TASK_ROWS
    columns = keys_of(np.arange(start, start + TASK_ROWS)) | verdicts_of(TASK_ROWS, np.random.default_rng(number))
    return entries_of(stores.pack(RESULTS, RESULTS.dataset(columns, TASK_ROWS)))


def packed_chunk(values: NDArray[Any], dtype: str) -> bytes:
    """A chunk as Zarr packs it by :func:`twinlines.pipeline.storage.chunks.compressed`."""
    packed = bytes(Blosc("lz4", clevel=5, shuffle=Blosc.SHUFFLE).encode(values.astype(dtype)))
    return packed + int(google_crc32c.value(packed)).to_bytes(4, "little")


def packed_shard(values: NDArray[Any], dtype: str, chunk_rows: int, shard_rows: int) -> bytes:
    """A shard of a variable of one dimension as Zarr packs it: its chunks, and where each begins and how long it is."""
    packed: list[bytes] = []
    places = np.full((shard_rows // chunk_rows, 2), 2**64 - 1, "<u8")  # what chunks have that are not there
    for number, start in enumerate(range(0, len(values), chunk_rows)):
        chunk = np.full(chunk_rows, np.nan if np.dtype(dtype).kind == "f" else 0, dtype)
        chunk[: len(values) - start] = values[start : start + chunk_rows]
        packed.append(packed_chunk(chunk, dtype))
        places[number] = sum(len(each) for each in packed[:-1]), len(packed[-1])
    index = places.tobytes()
    return b"".join([*packed, index, int(google_crc32c.value(index)).to_bytes(4, "little")])


def packed_result(start: int, stop: int) -> bytes:
    """The file of a task's result, as :func:`twinlines.pipeline.storage.stores.pack` makes it.

    Verdicts, and plans, repeat after some tasks, packed as they are; only numbers by which rows are known are packed
    anew.
    """
    own, rows = keys_of(np.arange(start, stop)), stop - start
    if rows != TASK_ROWS:
        verdicts = verdicts_of(rows, np.random.default_rng(start))
        return stores.pack(RESULTS, RESULTS.dataset(verdicts | own, rows))
    del own["planid"]
    packed = {f"{name}/c/0": packed_chunk(values, RESULTS.variables[name].dtype) for name, values in own.items()}
    entries = {**_whole_task(start // TASK_ROWS % POOL), **packed}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(name), entries[name])
        archive.comment = names_checksum(entries)
    return buffer.getvalue()
