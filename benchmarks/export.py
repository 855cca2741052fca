"""Rows a second that a catalog is exported at, by format, beside a bare write of the same table by fitsio.

The catalog is made up, and lies on disk as a published one does; all of its columns are exported. The baseline has the
whole table in memory, as one array of records in FITS's formats, and writes it by one call: no reading, no text, no
provenance. What an export has to do besides, reading the catalog's columns from Zarr, is measured as well. Peaks of
memory are those of the process (VmHWM) in a process of its own per format, over what opening the catalog takes.

    python benchmarks/export.py [--rows 500000] [--folder /tmp]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fitsio
import numpy as np

from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.catalog.tables.formats import FORMATS
from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.publication import healpix

_ONE = """
import sys, time
from pathlib import Path
from twinlines.pipeline.catalog import catalog
rows = catalog.open(sys.argv[1])
rows.isel(exposure=slice(9)).sb2.export(sys.argv[2], columns="all", overwrite=True)
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
before, start = peak(), time.perf_counter()
rows.sb2.export(sys.argv[2], columns="all", overwrite=True)
print(time.perf_counter() - start, peak() - before)
"""


def make(folder: Path, rows: int) -> None:
    """Publish a catalog of made-up values: as many digits as real ones have."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-0.2, 0.9, rows)))
    index = healpix(ra, dec)
    order = np.argsort(index)
    path = folder / "catalogs" / "one.zarr"
    stores.create(path, CATALOG, rows, {"releases": ["dr8"], "run": "0123456789abcdef", "weights_digest": "89ab"})
    for name, variable in CATALOG.variables.items():
        shape = CATALOG.shape(name, rows)
        if variable.dtype == "str":
            values: Any = np.array([f"HD{number % 997:06d}" for number in range(rows)], object)
        elif variable.dtype == "bool":
            values = rng.random(shape) < 0.7
        elif variable.dtype[0] == "f":
            values = rng.normal(0, 50, shape).astype(variable.dtype)
            values[rng.random(rows) < 0.1] = np.nan
        else:
            values = rng.integers(0, np.iinfo(variable.dtype).max, shape, dtype=variable.dtype)
        stores.write_column(
            path, CATALOG, name, {"ra": ra[order], "dec": dec[order], "healpix29": index[order]}.get(name, values)
        )
    stores.seal(path, CATALOG)
    (folder / "CURRENT").write_text("one.zarr\n")


def bare(folder: Path) -> tuple[float, float]:
    """Seconds of a bare write by fitsio, and of reading the catalog's columns."""
    rows = catalog.open(folder)
    start = time.perf_counter()
    loaded = {str(name): rows[name].values for name in rows.data_vars}
    reading = time.perf_counter() - start
    fields: list[Any] = []
    for name, values in loaded.items():
        text = CATALOG.variables[name].dtype == "str"
        fields.append((name, "S8" if text else values.dtype.str, values.shape[1:]))
    records = np.empty(rows.sizes["exposure"], fields)
    for name, values in loaded.items():
        records[name] = values.astype(str) if CATALOG.variables[name].dtype == "str" else values
    start = time.perf_counter()
    with fitsio.FITS(str(folder / "bare.fits"), "rw", clobber=True) as fits:
        fits.write(records)
    return time.perf_counter() - start, reading


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        make(folder, options.rows)
        baseline, reading = bare(folder)
        print(f"bare write: {baseline:.2f} s; reading the columns: {reading:.2f} s")
        formats: dict[str, dict[str, float]] = {}
        for name, format_ in FORMATS.items():
            out = folder / f"table{format_.suffixes[0]}"
            command = [sys.executable, "-c", _ONE, str(folder), str(out)]
            seconds, megabytes = map(float, subprocess.check_output(command, text=True).split())
            formats[name] = {
                "rows_per_second": options.rows / seconds,
                "over_bare_write": seconds / baseline,
                "memory_mb": megabytes,
            }
            print(f"{name}: {seconds:.2f} s, {seconds / baseline:.1f} times a bare write, {megabytes:.0f} MB")
    result = {
        "name": "export",
        "value": formats["fits"]["rows_per_second"],
        "unit": "rows/s",
        "baseline": options.rows / baseline,
        "ratio": 1.0 / formats["fits"]["over_bare_write"],
        "rows": options.rows,
        "reading_over_bare_write": reading / baseline,
        "formats": formats,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
