"""From a file to a probability and a picture in a new Python: five lines, beside what they cannot do without.

The unit of comparison is a new Python that imports PyTorch, xarray and astropy, and does nothing; wall times depend on
what else the machine does, and so both are taken in turn and the least of each counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "lamost"
FILE = "med-58646-TD192102N424113K01_sp12-076.fits.gz"
"""KIC 8098300 where its lines are double: three exposures, both arms."""

FIVE_LINES = """
import twinlines as tw
spectra = tw.read_lamost({file!r})
verdict = tw.judge(spectra)
print(verdict.pb_pct_B_16.sel(percentile=50).values, tw.explain(verdict.quality_B).values)
tw.plot.exposure(spectra.isel(exposure=0), verdict)[0].figure.savefig({picture!r})
"""
IMPORTS = "import torch, xarray, astropy"
DOOR = "import twinlines"
NOTHING = "pass"


def seconds(code: str) -> float:
    """Wall time of a new Python that runs ``code``, s."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(repeats: int = 4) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, picture = SHARED / FILE, Path(folder) / "verdict.png"
        if not file.exists():
            import twinlines as tw

            tw.mock_release(Path(folder) / "fits", stars=30, seed=1)
            file = sorted((Path(folder) / "fits").rglob("*.fits.gz"))[0]
        lines = FIVE_LINES.format(file=str(file), picture=str(picture))
        seconds(lines)  # which writes compiled modules and fonts' names
        times: dict[str, list[float]] = {code: [] for code in (lines, IMPORTS, DOOR, NOTHING)}
        for _ in range(repeats):
            for code, taken in times.items():
                taken.append(seconds(code))
        if not picture.exists():
            raise SystemExit(f"{picture} was not drawn")
    value, imports, door, nothing = (min(taken) for taken in times.values())
    print(f"{file.name}: {value:.2f} s; {IMPORTS}: {imports:.2f} s; {DOOR}: {(door - nothing) * 1e3:.1f} ms")
    print(
        json.dumps(
            {
                "name": "front",
                "value": round(value, 3),
                "unit": "s from starting Python to a verdict and its picture",
                "baseline": round(imports, 3),
                "ratio": round(value / imports, 2),
                "baseline_is": f"a new Python and '{IMPORTS}'",
                "import_ms": round((door - nothing) * 1e3, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
