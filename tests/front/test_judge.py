"""Judging in a notebook: the verdict of a survey's run to the last bit, and the process keeps its threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client

import twinlines as tw
from tests.places import SHARED
from twinlines.models import checkpoint
from twinlines.models.precision import quickest
from twinlines.pipeline.catalog.questions import CatalogError
from twinlines.pipeline.ingest import ingest
from twinlines.pipeline.mock import MockConfig, MockDefects
from twinlines.pipeline.schema import EXPOSURES, RESULTS, SchemaError
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, Inference, InferenceParameters
from twinlines.pipeline.survey import Survey, run

FEW = InferenceParameters(n_draws=2)


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    """A process that computes on three threads, before and after."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("front") / "fits"
    none = MockDefects(**dict.fromkeys(MockDefects.__dataclass_fields__, 0))
    config = replace(MockConfig(), defects=none, nights=(2, 2), exposures=(2, 2), median_snr=25.0)
    tw.mock_release(folder, stars=4, seed=9, config=config)
    return folder


def sorted_rows(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.isel(exposure=np.lexsort((dataset["lmjm"].values, dataset["obsid"].values)))


def assert_same(left: xr.Dataset, right: xr.Dataset, names: list[str]) -> None:
    left, right = sorted_rows(left), sorted_rows(right)
    for name in names:
        mine, theirs = left[name].values, right[name].values
        assert mine.dtype.kind == theirs.dtype.kind or {mine.dtype.kind, theirs.dtype.kind} <= set("OUT"), name
        assert np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f"), name


@pytest.mark.parametrize("source", ["mock", "real"])
def test_files_are_read_and_judged_as_a_survey_does(
    client: Client, files: Path, untrained_weights: Path, tmp_path: Path, source: str
) -> None:
    folder, survey = files if source == "mock" else SHARED / "lamost", tmp_path / "S"
    if not folder.is_dir():
        pytest.skip("../shared/lamost is absent")
    spectra = tw.read_lamost(folder)
    told: list[tuple[str, int, int]] = []
    verdict = tw.judge(spectra, weights=untrained_weights, parameters=FEW, progress=lambda *step: told.append(step))
    RESULTS.validate(verdict)
    assert told == [("exposures", spectra.sizes["exposure"], spectra.sizes["exposure"])]

    ingest(client, folder, survey, "one")
    run(client, survey, weights=untrained_weights, parameters=FEW)
    (release,) = Survey(survey).releases
    with xr.open_zarr(release.store, consolidated=False, decode_cf=False) as stored:
        assert_same(spectra, stored, list(EXPOSURES.variables))
    assert_same(verdict, tw.open_catalog(survey), list(RESULTS.variables))


def test_the_default_is_the_ensemble_that_ships(files: Path) -> None:
    spectra = tw.read_lamost(sorted(files.rglob("*.fits.gz"))[0])
    verdict = tw.judge(spectra)
    usual = InferenceParameters(precision=quickest("cpu"))
    infer = Inference.load(SHIPPED_WEIGHTS, checkpoint.digest(SHIPPED_WEIGHTS), usual)
    assert torch.get_num_threads() == 3
    assert_same(verdict, infer(spectra), list(RESULTS.variables))
    assert np.isfinite(verdict["pb_pct_B_16"]).all()


def test_blocks_and_single_exposures_change_nothing(
    files: Path, untrained_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spectra = tw.read_lamost(files)
    whole = tw.judge(spectra, weights=untrained_weights, parameters=FEW)
    monkeypatch.setattr("twinlines.pipeline.spectra.judging.BLOCK_ROWS", 5)
    told: list[tuple[str, int, int]] = []
    chunked = tw.judge(
        spectra.chunk(exposure=3), weights=untrained_weights, parameters=FEW, progress=lambda *step: told.append(step)
    )
    assert [done for _, done, _ in told] == [*range(5, len(whole["obsid"]), 5), len(whole["obsid"])]
    assert_same(chunked, whole, list(RESULTS.variables))
    one = tw.judge(spectra.isel(exposure=3), weights=untrained_weights, parameters=FEW)
    assert_same(one, whole.isel(exposure=[3]), list(RESULTS.variables))
    assert tw.judge(spectra.isel(exposure=[]), weights=untrained_weights, parameters=FEW).sizes["exposure"] == 0


def test_what_are_no_exposures_is_refused() -> None:
    with pytest.raises(SchemaError, match="not 'exposures' version 1"):
        tw.judge(xr.Dataset())


def test_correlations_have_their_peak_at_the_velocity(files: Path, untrained_weights: Path) -> None:
    spectra = tw.read_lamost(files).isel(exposure=slice(0, 3))
    spectra["flux"][2, 0] = np.nan
    verdict = tw.judge(spectra, weights=untrained_weights, parameters=FEW)
    for name in ("B", "R"):
        correlation = tw.ccf(spectra, arm=name)
        assert correlation.dims == ("exposure", "velocity")
        seen = np.isfinite(verdict[f"rv_obs_{name}"].values)
        assert seen.sum() == (2 if name == "B" else 3)
        assert np.isnan(correlation.values[~seen]).all()
        assert np.isnan(correlation["teff"].values[~seen]).all()
        peak = correlation.isel(exposure=seen).idxmax("velocity").values
        # One step of the grid is 5.2 km/s.
        np.testing.assert_allclose(peak, verdict[f"rv_obs_{name}"].values[seen], atol=2.7)
        np.testing.assert_allclose(
            correlation.isel(exposure=seen).max("velocity"), verdict[f"ccfmax_{name}"].values[seen], atol=0.01
        )
        assert np.array_equal(correlation["teff"].values[seen], verdict[f"rv_teff_{name}"].values[seen])
        assert correlation["velocity"].attrs["units"] == "km s-1"
    with pytest.raises(ValueError, match="no arm is called 'G'"):
        tw.ccf(spectra, arm="G")  # type: ignore[arg-type]


def test_pairs_in_memory_are_those_of_a_store(client: Client, tmp_path: Path) -> None:
    from twinlines.pipeline.training.recipe import SynthesisError, TrainingSet
    from twinlines.pipeline.training.store import synthesize

    recipe = TrainingSet(12, seed=3)
    here = tw.synthesize(recipe)
    assert torch.get_num_threads() == 3
    synthesize(client, recipe, tmp_path / "pairs.zarr", shard_rows=6)
    with xr.open_zarr(tmp_path / "pairs.zarr", consolidated=False, decode_cf=False) as stored:
        assert here.attrs["digest"] == stored.attrs["digest"]
        for name in stored.data_vars:
            np.testing.assert_array_equal(here[name], stored[name], err_msg=str(name))
    with pytest.raises(SynthesisError, match="ask for 16384 or fewer"):
        tw.synthesize(1_000_000)


def test_other_things_that_compute_leave_the_threads_alone(client: Client, tmp_path: Path) -> None:
    from twinlines.pipeline.jobs.markers import Markers
    from twinlines.pipeline.training.members import MARKERS, Task, Training, train_one
    from twinlines.pipeline.training.recipe import TrainingSet
    from twinlines.pipeline.training.store import synthesize

    tw.load_ensemble()
    assert torch.get_num_threads() == 3
    synthesize(client, TrainingSet(190, seed=5), tmp_path / "pairs.zarr")
    sizes = {"filters": (4,), "kernels": (16,), "strides": (16,), "features": 8, "head": (4,), "joint": (4,)}
    (config,) = Training(members=1, epochs=1, sizes=sizes).configs()
    Markers(tmp_path / "W" / MARKERS).open()
    train_one(Task.of(config, "digest", None), (str(tmp_path / "pairs.zarr"),), str(tmp_path / "W"))
    assert (tmp_path / "W" / "member_1.safetensors").exists()


def test_quality_in_words() -> None:
    assert tw.explain(0) == "good"
    assert tw.explain(34) == "S/N of 5 or less; no velocity"
    words = tw.explain(np.array([[0, 1], [4, 0]], dtype=np.uint16))
    assert words.tolist() == [["good", "no spectrum of this arm"], ["100 or more bad pixels", "good"]]
    column = xr.DataArray([0, 64], dims="exposure", name="quality_B", attrs={"long_name": "Quality"})
    assert tw.explain(column).dims == ("exposure",)
    assert tw.explain(column)[1] == "does not cover the arm's wavelengths at rest"
    assert tw.explain(np.array([], dtype=np.uint16)).shape == (0,)
    assert tw.explain([0, 2]).tolist() == ["good", "S/N of 5 or less"]
    assert tw.explain(np.uint16(128)) == "another velocity is as good, or the template explains little"
    with pytest.raises(ValueError, match="qualities are float64"):
        tw.explain(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="1024 has bits without a meaning"):
        tw.explain(1024)


def test_a_verdict_answers_as_a_catalog_does(
    client: Client, files: Path, untrained_weights: Path, tmp_path: Path
) -> None:
    spectra = tw.read_lamost(files)
    verdict = tw.judge(spectra, weights=untrained_weights, parameters=FEW)
    ingest(client, files, tmp_path / "S", "one")
    run(client, tmp_path / "S", weights=untrained_weights, parameters=FEW)
    catalog = tw.open_catalog(tmp_path / "S")
    star = verdict.isel(exposure=0)
    obsid, position = int(star["obsid"]), (float(star["ra"]), float(star["dec"]))
    for asked in (
        lambda rows: rows.sb2.candidates(rule="paper", threshold=0.0, arms="any"),
        lambda rows: rows.sb2.candidates(threshold=0.0),
        lambda rows: rows.sb2.cone(*position, 3.0),
        lambda rows: rows.sb2.cone(*position, 100 * 3600.0),
        lambda rows: rows.sb2.source(obsid),
        lambda rows: rows.sb2.cone(*position, 3.0).sb2.source(obsid).sb2.candidates(threshold=0.0),
    ):
        answer = asked(verdict)
        assert answer.sizes["exposure"] > 0
        assert_same(answer, asked(catalog), list(RESULTS.variables))
    assert verdict.sb2.export(tmp_path / "verdict.fits") == verdict.sizes["exposure"]
    with pytest.raises(CatalogError, match="no dimension 'exposure'; select a row by a list"):
        star.sb2.candidates()
    with pytest.raises(CatalogError, match=r"lacks .*; ask a catalog"):
        spectra.sb2.candidates()
    with pytest.raises(CatalogError, match="percentile 50 is not among those selected"):
        verdict.sel(percentile=[0, 100]).sb2.probability("B", percentile=50)
