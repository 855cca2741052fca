"""What the chunks' checksums cost: columns of a catalog written and read with and without them, in one run.

The columns are those that the rule of candidates asks. Both are timed by the processor, on warm file caches, the
quickest of some tries, in turns. The baseline is the same code without the last codec.

    python benchmarks/checksums.py [--rows 524288] [--folder /tmp]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.storage import chunks, stores
from twinlines.pipeline.storage.columns import Column

NAMES = ("pb_pct_J_16", "npixbad_B", "npixbad_R", "bprp0", "quality_B", "quality_R")
SCHEMA = replace(CATALOG, variables={name: CATALOG.variables[name] for name in NAMES}, since={})
TRIES = 8


def values(rows: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(1)
    made: dict[str, NDArray[Any]] = {
        "pb_pct_J_16": np.sort(rng.random((rows, 5)), axis=1),
        "bprp0": np.full(rows, np.nan),
        **{f"npixbad_{arm}": rng.poisson(12.0, rows) for arm in "BR"},
        **{f"quality_{arm}": np.where(rng.random(rows) < 0.02, 256, 0) for arm in "BR"},
    }
    return {name: made[name].astype(SCHEMA.variables[name].dtype) for name in NAMES}


def write(path: Path, columns: Mapping[str, NDArray[Any]], checksums: bool) -> float:
    """Seconds of the processor for writing a store of these columns."""
    packing = chunks.compressed(SCHEMA.bitshuffle)[: 2 if checksums else 1]
    with mock.patch.object(chunks, "compressed", return_value=packing):
        stores.create(path, SCHEMA, len(columns["bprp0"]))
    began = time.process_time()
    for name, column in columns.items():
        stores.write_column(path, SCHEMA, name, column)
    return time.process_time() - began


def read(path: Path) -> float:
    """Seconds of the processor for reading all of a store."""
    began = time.process_time()
    for name in NAMES:
        column, _ = Column.open(path / name, SCHEMA.variables[name].missing, None)
        for number in range(column.chunks):
            column.chunk(number)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=524_288)
    parser.add_argument("--folder", type=Path, help="where to work; by default the system's temporary folder")
    options = parser.parse_args()
    columns = values(options.rows)
    seconds: dict[str, list[float]] = {"write": [], "bare_write": [], "read": [], "bare_read": []}
    size: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for number in range(TRIES):
            for name, checksums in (("bare_", False), ("", True)):
                path = Path(folder, f"{name}{number}.zarr")
                seconds[f"{name}write"].append(write(path, columns, checksums))
                seconds[f"{name}read"] += [read(path) for _ in range(3)]
                size[name] = sum(file.stat().st_size for file in path.rglob("*/c/**/*") if file.is_file())
    best = {name: min(every) / options.rows * 1e9 for name, every in seconds.items()}
    print(
        f"reading {best['read']:.1f} ns a row, without checksums {best['bare_read']:.1f}; writing {best['write']:.0f}, "
        f"without {best['bare_write']:.0f}; {size[''] - size['bare_']} bytes more of {size['bare_']}"
    )
    print(
        json.dumps(
            {
                "name": "checksums",
                "value": round(best["read"], 2),
                "unit": "ns a row",
                "baseline": round(best["bare_read"], 2),
                "ratio": round(best["read"] / best["bare_read"], 3),
                "write_ratio": round(best["write"] / best["bare_write"], 3),
                "bytes_ratio": round(size[""] / size["bare_"], 6),
            }
        )
    )


if __name__ == "__main__":
    main()
