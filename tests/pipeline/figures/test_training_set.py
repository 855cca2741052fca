"""Figures of a training set: that they show what the store holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PathCollection

from twinlines.pipeline.figures import training_set
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.storage import stores
from twinlines.pipeline.synthesis import spectra
from twinlines.pipeline.synthesis.beyond_table1 import CoolGiants, Extras
from twinlines.pipeline.synthesis.spectra import Scene
from twinlines.pipeline.training import recipe
from twinlines.pipeline.training.recipe import TrainingSet

MIXED = TrainingSet(n_pairs=40, seed=2, extras=Extras(CoolGiants(0.2)))


@pytest.fixture(scope="module")
def pairs() -> xr.Dataset:
    chosen = recipe.select(MIXED)
    columns: dict[str, np.ndarray] = {"split": recipe.splits(0, 40, 2)}
    for code, source in MIXED.sources().items():
        rows = np.flatnonzero(chosen.population == code)
        drawn = source.realise(chosen.number[rows], Tracks.load(), Library.load())
        for name, values in spectra.pairs(Library.load(), drawn, Scene(2, code, MIXED.extras, MIXED.frame)).items():
            columns.setdefault(name, np.empty((40, *values.shape[1:]), PAIRS.variables[name].dtype))[rows] = values
    return PAIRS.dataset(columns, 40)


def test_the_states_are_those_of_the_binaries(pairs: xr.Dataset) -> None:
    figure = training_set.states(pairs, Tracks.load())
    coeval = pairs["population"].values == 0
    assert 0 < coeval.sum() < 40
    for panel, star in zip(figure.axes[:2], "12", strict=True):
        (points,) = (one for one in panel.collections if isinstance(one, PathCollection))
        shown = np.asarray(points.get_offsets())
        expected = np.stack([pairs[f"{name}{star}"].values[coeval] for name in ("teff", "logg")], axis=1)
        np.testing.assert_allclose(np.sort(shown, axis=0), np.sort(expected, axis=0))
        assert len(panel.lines) == 4
    left, right = figure.axes[0].get_xlim()
    assert left > right  # hot stars stand on the left


def test_the_sum_is_drawn_above_its_parts() -> None:
    figure = training_set.synthesis(Tracks.load(), Library.load())
    for above, below in zip(figure.axes[:2], figure.axes[2:], strict=True):
        first, second, both = (np.asarray(line.get_ydata()) for line in above.lines)
        np.testing.assert_allclose(both, first + second, rtol=1e-5)
        assert first.max() == pytest.approx(1.0)
        single, binary = (np.asarray(line.get_ydata()) for line in below.lines)
        assert np.abs(single - binary).max() > 0.05


def test_distributions_are_of_table_1s_pairs_alone(pairs: xr.Dataset) -> None:
    figure = training_set.marginals(pairs, MIXED)
    assert len([panel for panel in figure.axes if panel.axison]) == 11
    assert f"{(pairs['population'].values == 0).sum()} pairs" in str(figure.get_suptitle())


def test_twenty_pairs_are_drawn_with_their_parameters(pairs: xr.Dataset) -> None:
    figure = training_set.twenty(pairs, "R")
    (panel,) = figure.axes
    assert len(panel.lines) == 40
    captions = [text.get_text() for text in panel.texts]
    assert sum(caption.startswith("cool_giant") for caption in captions) >= 1
    assert not any("nan" in caption for caption in captions)


def test_a_report_is_five_pictures(pairs: xr.Dataset, tmp_path: Path) -> None:
    store = tmp_path / "pairs.zarr"
    stores.create(store, PAIRS, 40)
    stores.write_shard(store, PAIRS, 0, pairs)
    written = training_set.write(store, MIXED, tmp_path / "report")
    assert [path.name for path in written] == [
        "states.png",
        "synthesis.png",
        "priors.png",
        "pairs_B.png",
        "pairs_R.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
