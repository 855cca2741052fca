"""Templates have the same bits whatever the threads of the process: velocities and verdicts rest on them."""

from __future__ import annotations

import os
import subprocess
import sys

_HASH = """
import hashlib
from twinlines.pipeline.spectra.templates import Templates
digest = hashlib.sha256()
for arm in Templates.default().arms.values():
    digest.update(arm.transform.numpy().tobytes())
print(digest.hexdigest())
"""


def test_threads_of_blas_change_no_bit() -> None:
    """NumPy's products go over OpenBLAS, which sums in another order on two threads."""
    hashes = set()
    for threads in ("1", "2"):
        inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        done = subprocess.run(
            [sys.executable, "-c", _HASH],
            env={**inherited, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.add(done.stdout)
    assert len(hashes) == 1
