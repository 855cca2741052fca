"""Lists of a survey's stars: what they are sorted by, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinlines.pipeline.binaries.fits.store import FitsError
from twinlines.pipeline.binaries.schema import SOURCES
from twinlines.pipeline.binaries.sources.questions import select

NAN = float("nan")


@pytest.fixture
def table() -> xr.Dataset:
    """Six stars; the best exposure of the least likely one is the surest, as one bad spectrum's is."""
    columns = {
        "obsid": [1, 2, 3, 4, 5, 6],
        "epochs_double": [1, 1, 1, 1, 1, 0],
        "best_probability": [0.7, 0.8, 0.9, 0.99, 1.0, 0.5],
        "sb2_probability": [1.0, NAN, 0.3, 1.0, 0.01, 0.9],
        "sb2_log_evidence": [60.0, NAN, 3.0, 90.0, -2.0, 8.0],
        "delta_chi2_sum": [100.0, 900.0, 50.0, 60.0, 70.0, 0.0],
    }
    return SOURCES.dataset({name: np.array(values) for name, values in columns.items()}, 6)


def test_evidence_is_that_of_all_exposures_and_what_is_not_known_comes_last(table: xr.Dataset) -> None:
    assert select(table, sort="evidence")["obsid"].values.tolist() == [4, 1, 3, 5, 2]
    assert select(table, sort="evidence", least_evidence=0.2)["obsid"].values.tolist() == [4, 1, 3]
    assert select(table, sort="evidence", least_evidence=0.2, least_double=0)["obsid"].values.tolist() == [4, 1, 6, 3]
    assert select(table, sort="obsid")["obsid"].values.tolist() == [1, 2, 3, 4, 5]
    # Of stars that nothing tells apart, those come first that two stars explain better.
    alike = table.assign(sb2_probability=("source", np.full(6, NAN)), sb2_log_evidence=("source", np.full(6, NAN)))
    assert select(alike, sort="evidence")["obsid"].values.tolist() == [2, 1, 5, 4, 3]
    with pytest.raises(FitsError, match="cannot be sorted by 'beauty'; there are evidence, double"):
        select(table, sort="beauty")
