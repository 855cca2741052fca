"""The training store and the training of members, over a real cluster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from twinlines.models import checkpoint
from twinlines.models.ensemble import Ensemble
from twinlines.pipeline import population, stores, training, trainingset
from twinlines.pipeline.population import Priors, Uniform
from twinlines.pipeline.schema import PAIRS, SchemaError
from twinlines.pipeline.trainingset import SynthesisError, SynthesisReport, TrainingSet, kept_draws, synthesize

SMALL = TrainingSet(n_pairs=70, seed=3)


@pytest.fixture(scope="module")
def report(client: Client, tmp_path_factory: pytest.TempPathFactory) -> SynthesisReport:
    return synthesize(client, SMALL, tmp_path_factory.mktemp("pairs") / "pairs.zarr")


def test_the_store_holds_the_first_draws_that_are_kept(report: SynthesisReport) -> None:
    with stores.open_store(report.store, PAIRS) as store:
        assert store.sizes["pair"] == 70
        drawn = population.draw(0, report.n_draws, seed=3)
        np.testing.assert_allclose(store["mass1"], drawn.mass1[store["draw"].values], rtol=1e-6)
        assert int(store["draw"][-1]) == report.n_draws - 1
        assert np.isfinite(store["flux_B"].values).all()
        assert set(store["split"].values.tolist()) == {0, 1, 2}
        assert store.attrs["digest"] == report.digest
        assert store.attrs["fates"] == report.fates
    assert sum(report.fates.values()) == report.n_draws
    assert report.kept_fraction == 70 / report.n_draws


def test_the_digest_says_what_the_pairs_are_made_of(report: SynthesisReport) -> None:
    other = TrainingSet(n_pairs=70, seed=3, priors=Priors(mass_ratio=Uniform(0.5, 1.0)))
    assert SMALL.provenance() != other.provenance()
    assert SMALL.provenance() == TrainingSet(n_pairs=70, seed=3).provenance()


def test_a_longer_set_begins_with_the_shorter(report: SynthesisReport) -> None:
    longer, _, _ = kept_draws(TrainingSet(n_pairs=200, seed=3))
    with stores.open_store(report.store, PAIRS) as store:
        np.testing.assert_array_equal(longer.number[:70], store["draw"].values)


def test_an_existing_store_stays(client: Client, report: SynthesisReport) -> None:
    with pytest.raises(stores.StoreError, match="exists already"):
        synthesize(client, SMALL, Path(report.store))


def test_what_fails_leaves_nothing_behind(client: Client, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(client, TrainingSet(n_pairs=5), tmp_path / "pairs.zarr", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_priors_that_give_no_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainingset, "_MOST_DRAWS_PER_PAIR", 10)
    with pytest.raises(SynthesisError, match="only 0 of 16384 draws became pairs"):
        kept_draws(TrainingSet(n_pairs=5, priors=Priors(feh=Uniform(0.4, 0.5))))
    with pytest.raises(SynthesisError, match="at least one pair"):
        kept_draws(TrainingSet(n_pairs=0))


def test_members_are_trained_as_tasks_and_make_an_ensemble(
    client: Client, report: SynthesisReport, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    options = {"arms": ("B", "R"), "penalties": (16,), "members": 1, "epochs": 1}
    metrics = training.train(
        client, Path(report.store), tmp_path / "w", progress=lambda *step: told.append(step), **options
    )
    assert sorted(metrics) == ["B_p16_m1", "R_p16_m1"]
    assert told == [("train", 1, 2), ("train", 2, 2)]
    ensemble = Ensemble.load(tmp_path / "w")
    assert ensemble.penalties("R") == (16,)
    before = checkpoint.digest(tmp_path / "w")
    assert training.train(client, Path(report.store), tmp_path / "w", **options) == metrics
    assert checkpoint.digest(tmp_path / "w") == before


def test_training_on_something_else_is_one_clear_error(client: Client, tmp_path: Path) -> None:
    with pytest.raises(stores.StoreError, match="does not exist"):
        training.train(client, tmp_path / "none.zarr", tmp_path / "w")
    other = tmp_path / "other.zarr"
    stores.create(other, trainingset.PAIRS, 1)
    (other / "zarr.json").write_text((other / "zarr.json").read_text().replace('"pairs"', '"catalog"'))
    with pytest.raises(SchemaError, match="'catalog'"):
        training.train(client, other, tmp_path / "w")
