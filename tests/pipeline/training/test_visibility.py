"""Which binaries show that they are any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.storage import stores
from twinlines.pipeline.training.visibility import RESOLVED, visibility, weights


def columns(**changed: float) -> dict[str, np.ndarray]:
    """One pair: an equal twin, far apart, of slow rotators, at S/N 20 in both arms."""
    plain = {"separation": 200.0, "vsini1": 0.0, "vsini2": 0.0, "snr_B": 20.0, "snr_R": 20.0}
    plain |= {"flux_ratio_B": 1.0, "flux_ratio_R": 1.0}
    return {name: np.array([value]) for name, value in (plain | changed).items()}


def of(head: str, **changed: float) -> float:
    return float(visibility(columns(**changed))[head][0])


def test_a_twin_far_apart_shows_as_its_signal_to_noise() -> None:
    assert of("B") == pytest.approx(20.0)
    assert of("R", snr_R=35.0) == pytest.approx(35.0)
    assert of("J", snr_R=15.0) == pytest.approx(25.0)  # both arms count, as root of the sum of squares


def test_what_hides_a_companion() -> None:
    assert of("B", flux_ratio_B=0.01) == pytest.approx(0.2)
    assert of("B", flux_ratio_B=100.0) == pytest.approx(0.2)  # then the primary is the fainter one
    assert of("B", separation=-RESOLVED / 2) == pytest.approx(5.0)
    assert of("B", vsini2=100.0) == pytest.approx(10.0)
    assert of("B", vsini2=100.0, flux_ratio_B=2.0) == pytest.approx(10.0)
    assert of("B", vsini1=100.0, flux_ratio_B=2.0) == pytest.approx(5.0)
    assert of("B", separation=0.0) == 0.0


def test_without_a_second_star_there_is_nothing_to_see() -> None:
    nothing = {"separation": np.nan, "vsini2": np.nan, "flux_ratio_B": np.nan, "flux_ratio_R": np.nan}
    assert {head: of(head, **nothing) for head in "BRJ"} == {"B": 0.0, "R": 0.0, "J": 0.0}


def test_binaries_that_do_not_show_have_no_weight_and_singles_always_have(tmp_path: Path) -> None:
    rows = {name: np.repeat(values, 4) for name, values in columns().items()}
    rows["flux_ratio_B"] = np.array([1.0, 0.001, 0.001, 1.0])
    rows["flux_ratio_R"] = np.array([1.0, 1.0, 0.001, np.nan])
    label = np.array([[0, 1], [0, 1], [0, 1], [0, 0]], np.int8)
    store = tmp_path / "pairs.zarr"
    stores.create(store, PAIRS, 4)
    for name, values in {**rows, "label": label}.items():
        stores.write_column(store, PAIRS, name, values.astype(PAIRS.variables[name].dtype))
    found = weights(store, 0.3)
    assert found["B"].tolist() == [[1, 1], [1, 0], [1, 0], [1, 1]]
    assert found["R"].tolist() == [[1, 1], [1, 1], [1, 0], [1, 1]]
    assert found["J"].tolist() == [[1, 1], [1, 1], [1, 0], [1, 1]]
    assert all((each == 1).all() for each in weights(store, 0.0).values())
