"""The newest store of a kind: opened, or an error that says what to do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.fits.store import FitsError
from twinlines.pipeline.binaries.schema import ORBIT_SAMPLES


def test_the_newest_is_opened_or_it_is_said_what_to_do(tmp_path: Path) -> None:
    def asked(schema: numbered.Schema = ORBIT_SAMPLES, **how: object) -> tuple[Path, object]:
        return numbered.open_newest(
            *(tmp_path, "samples", schema),
            none="there is none; make it",
            again="make it again",
            refused=FitsError,
            **how,  # type: ignore[arg-type]
        )

    with pytest.raises(FitsError, match=r"^there is none; make it$"):
        asked()
    for value in (1.0, 2.0):
        path = numbered.put(
            *(tmp_path, "samples", ORBIT_SAMPLES, 3),
            *(lambda name, value=value: np.full(3, value, ORBIT_SAMPLES.variables[name].dtype), {}),  # type: ignore[misc]
        )
    for how in (numbered.read, numbered.load):
        opened, dataset = asked(how=how)
        assert opened == path
        assert dataset["period"].values.tolist() == [2.0] * 3  # type: ignore[index]
    with pytest.raises(FitsError, match=r"is of another version of Twinlines .*; make it again$"):
        asked(replace(ORBIT_SAMPLES, version=99))
    shutil.rmtree(path / "period")
    with pytest.raises(FitsError, match=r"samples-000002\.zarr.*; make it again$"):
        asked()
