"""The pure function from exposures to results, on mock spectra and on the survey's real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.places import SHARED
from twinlines.models import checkpoint, precision
from twinlines.models.ensemble import EnsembleError
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.precision import has_bfloat16
from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.lamost import reader
from twinlines.pipeline.mock.release import MockConfig, MockDefects, make_release
from twinlines.pipeline.schema import CATALOG_PENALTIES, EXPOSURES, RESULTS, Quality
from twinlines.pipeline.spectra.familiarity import UNFAMILIAR_ABOVE
from twinlines.pipeline.spectra.inference import Inference, InferenceParameters, ParameterError, WeightsChangedError

ROWS = 9


@pytest.fixture(scope="module")
def inference(untrained_weights: Path) -> Inference:
    return Inference.load(untrained_weights, checkpoint.digest(untrained_weights), InferenceParameters(n_draws=3))


def exposures(files: list[reader.MrsFile]) -> xr.Dataset:
    rows = [(file, exposure) for file in files for exposure in file.exposures]
    empty = {name: EXPOSURES.variables[name].empty(EXPOSURES.shape(name, len(rows))) for name in EXPOSURES.variables}
    for row, (file, exposure) in enumerate(rows):
        empty["obsid"][row], empty["lmjm"][row] = file.obsid, exposure.lmjm
        empty["ra"][row], empty["dec"][row] = file.ra, file.dec
        for index, arm in enumerate((exposure.blue, exposure.red)):
            if arm is not None:
                empty["snr"][row, index] = arm.snr
                for name in ("flux", "ivar", "loglam", "mask"):
                    empty[name][row, index] = getattr(arm, name)
    return EXPOSURES.dataset(empty, len(rows))


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    folder = tmp_path_factory.mktemp("mock") / "fits"
    none = MockDefects(**dict.fromkeys(MockDefects.__dataclass_fields__, 0))
    config = replace(MockConfig(), defects=none, nights=(2, 2), exposures=(2, 2), median_snr=30.0)
    make_release(folder, stars=3, seed=4, config=config)
    files = [reader.read(path) for path in sorted(folder.rglob("med-*.fits.gz"))]
    return exposures(files).isel(exposure=slice(0, ROWS))


@pytest.fixture(scope="module")
def results(inference: Inference, block: xr.Dataset) -> xr.Dataset:
    return inference(block)


def same(left: xr.Dataset, right: xr.Dataset) -> bool:
    return all(
        np.array_equal(left[name], right[name], equal_nan=left[name].dtype.kind == "f") for name in RESULTS.variables
    )


def test_results_are_whole(results: xr.Dataset, block: xr.Dataset) -> None:
    RESULTS.validate(results)
    assert np.array_equal(results["obsid"], block["obsid"])
    for name in ARM_NAMES:
        used = results[f"specflag_{name}"].values
        assert used.sum() >= 5
        percentiles = results[f"pb_pct_{name}_16"].values[used]
        assert ((percentiles >= 0) & (percentiles <= 1)).all()
        assert (np.diff(percentiles, axis=1) >= 0).all()
        assert (results[f"rv_obs_err_{name}"].values[used] > 0).all()
        assert np.isnan(results[f"rv_abs_{name}"]).all()
        assert (results[f"npixbad_{name}"].values[used] < 100).all()
        noise = results[f"noise_{name}"].values
        assert (np.abs(noise[used] - 1.0) < 0.2).all()
        assert np.isnan(noise[~used]).all()
        misfit = results[f"misfit_{name}"].values
        assert ((misfit[used] >= 0) & (misfit[used] < UNFAMILIAR_ABOVE[name])).all()
        assert np.isnan(misfit[~used]).all()
        assert not (results[f"quality_{name}"].values & Quality.UNFAMILIAR).any()
    both = (results["specflag_B"] & results["specflag_R"]).values
    assert both.any()
    for penalty in CATALOG_PENALTIES:
        joint = results[f"pb_pct_J_{penalty}"].values
        assert ((joint[both] >= 0) & (joint[both] <= 1)).all()
        assert np.isnan(joint[~both]).all()


@pytest.mark.parametrize("order", [list(range(ROWS))[::-1], [3], [5, 0, 8, 2]], ids=["reversed", "one", "some"])
def test_rows_do_not_depend_on_their_neighbours(
    inference: Inference, block: xr.Dataset, results: xr.Dataset, order: list[int]
) -> None:
    assert same(inference(block.isel(exposure=order)), results.isel(exposure=order))


def changed(block: xr.Dataset, change: Callable[[xr.Dataset], None]) -> xr.Dataset:
    copy = block.isel(exposure=[0, 1]).copy(deep=True)
    change(copy)
    return copy


def test_low_snr_is_left_out(inference: Inference, block: xr.Dataset) -> None:
    def change(rows: xr.Dataset) -> None:
        rows["snr"][0, 0] = 5.0

    result = inference(changed(block, change))
    assert not result["specflag_B"][0]
    assert result["quality_B"][0] == Quality.LOW_SNR
    assert np.isnan(result["pb_pct_B_16"][0]).all()
    assert np.isnan(result["rv_obs_B"][0])
    assert result["npixbad_B"][0] == ARMS["B"].n_pixels
    assert np.isfinite(result["pb_pct_R_16"][0]).all()
    assert result["quality_R"][0] & Quality.ONE_ARM
    assert np.isnan(result["pb_pct_J_16"][0]).all()


def test_an_absent_arm_is_left_out(inference: Inference, block: xr.Dataset) -> None:
    def change(rows: xr.Dataset) -> None:
        for name in ("flux", "ivar", "loglam", "snr"):
            rows[name][0, 1] = np.nan

    result = inference(changed(block, change))
    assert result["quality_R"][0] == Quality.NO_ARM
    assert not result["specflag_R"][0]
    assert np.isnan(result["pb_pct_R_16"][0]).all()
    assert np.isfinite(result["pb_pct_B_16"][0]).all()
    assert result["quality_B"][0] & Quality.ONE_ARM
    assert np.isnan(result["pb_pct_J_16"][0]).all()


def test_an_arm_is_judged_alike_with_and_without_the_other(
    inference: Inference, block: xr.Dataset, results: xr.Dataset
) -> None:
    def change(rows: xr.Dataset) -> None:
        for name in ("flux", "ivar", "loglam", "snr"):
            rows[name][:, 1] = np.nan

    alone = inference(changed(block, change))
    both = results.isel(exposure=slice(0, alone.sizes["exposure"]))
    np.testing.assert_array_equal(alone["pb_pct_B_16"], both["pb_pct_B_16"])
    assert np.isnan(alone["pb_pct_J_16"]).all()


@pytest.mark.parametrize("value", [np.nan, 0.0, -100.0], ids=["NaN", "zero", "negative"])
def test_ruined_flux_is_flagged_and_spoils_no_other_row(
    inference: Inference, block: xr.Dataset, results: xr.Dataset, value: float
) -> None:
    def change(rows: xr.Dataset) -> None:
        rows["flux"][0, 0] = value

    result = inference(changed(block, change))
    assert result["quality_B"][0].item() & (Quality.NO_CONTINUUM | Quality.NO_VELOCITY)
    assert np.isnan(result["pb_pct_B_16"][0]).all()
    assert same(result.isel(exposure=[1]), results.isel(exposure=[1]))


def test_pixels_that_miss_the_grid_are_flagged(inference: Inference, block: xr.Dataset) -> None:
    def change(rows: xr.Dataset) -> None:
        rows["loglam"][0, 0] = rows["loglam"][0, 0] + np.float32(np.log10(5150 / 5000))

    result = inference(changed(block, change))
    assert result["quality_B"][0].item() & (Quality.OFF_GRID | Quality.NO_VELOCITY)
    assert np.isnan(result["pb_pct_B_16"][0]).all()


def test_a_precision_is_what_was_asked_for_or_an_error(
    untrained_weights: Path, inference: Inference, block: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, mixed = checkpoint.digest(untrained_weights), InferenceParameters(n_draws=3, precision="mixed")
    assert mixed.to_json() != inference.parameters.to_json()
    if has_bfloat16("cpu"):
        found, exact = Inference.load(untrained_weights, digest, mixed)(block), inference(block)
        for name in ("pb_pct_B_16", "pb_pct_R_16"):
            np.testing.assert_allclose(found[name], exact[name], atol=0.02)
            assert not np.array_equal(found[name], exact[name], equal_nan=True)
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    with pytest.raises(EnsembleError, match="the precision 'mixed' needs a device that multiplies bfloat16"):
        Inference.load(untrained_weights, digest, mixed)


def test_no_rows(inference: Inference, block: xr.Dataset) -> None:
    assert inference(block.isel(exposure=slice(0, 0))).sizes["exposure"] == 0


def test_changed_weights_are_refused(untrained_weights: Path) -> None:
    with pytest.raises(WeightsChangedError, match="planned with 0123"):
        Inference.load(untrained_weights, "0123", InferenceParameters())


def test_parameters_that_are_none_are_refused() -> None:
    with pytest.raises(ParameterError, match="precision is 'bfloat16'; give one of float32, mixed"):
        InferenceParameters(precision="bfloat16")
    with pytest.raises(ParameterError, match="n_draws is 0; give 1 or more"):
        InferenceParameters(n_draws=0)


def test_weights_of_another_arm_s_length_are_refused(tmp_path: Path) -> None:
    header = checkpoint.Header(member=1, seed=1, pairs="none")
    network = Network(NetworkConfig((ARMS["B"].n_pixels, ARMS["B"].n_pixels)))
    checkpoint.save(tmp_path / f"{header.stem}.safetensors", network, header)
    with pytest.raises(EnsembleError, match="for arm R take 3347 pixels; the arm has 3509"):
        Inference.load(tmp_path, None, InferenceParameters())


def test_what_the_library_does_not_explain_is_judged_and_said(
    inference: Inference, block: xr.Dataset, results: xr.Dataset
) -> None:
    teeth = 1.0 + 0.5 * np.sign(np.sin(np.arange(block.sizes["pixel"]) / 12.0))

    def change(rows: xr.Dataset) -> None:
        rows["flux"][0, 0] *= teeth.astype(np.float32)

    result = inference(changed(block, change))
    assert result["quality_B"].values[0] & Quality.UNFAMILIAR
    assert result["misfit_B"].values[0] > UNFAMILIAR_ABOVE["B"]
    assert np.isfinite(result["pb_pct_B_16"].values[0]).all()
    assert same(result.isel(exposure=[1]), results.isel(exposure=[1]))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    network = Network(NetworkConfig((ARMS["B"].n_pixels, ARMS["R"].n_pixels)))
    header = checkpoint.Header(member=1, seed=1, pairs="none")
    path = tmp_path / f"{header.stem}.safetensors"
    checkpoint.save(path, network, header)
    tensors, about = checkpoint.unpack(path)
    about["network"]["architecture"] = "transformer-999"
    path.write_bytes(checkpoint.pack(tensors, about))
    with pytest.raises(checkpoint.CheckpointError, match=r"transformer-999(?s:.)*two-arm-lenet-1"):
        Inference.load(tmp_path, None, InferenceParameters())


def test_the_survey_s_own_spectra(inference: Inference) -> None:
    folder = SHARED / "lamost"
    if not folder.is_dir():
        pytest.skip("../shared/lamost is absent")
    files = [reader.read(path) for path in sorted(folder.glob("med-*"))]
    block = exposures(files)
    assert block.sizes["exposure"] == 22
    result = inference(block)
    low = block["snr"].values <= 5
    for index, name in enumerate(ARM_NAMES):
        assert np.isnan(result[f"pb_pct_{name}_16"].values[low[:, index]]).all()
        assert np.isfinite(result[f"pb_pct_{name}_16"].values[~low[:, index]]).all()
    # Its noise is what is stated, or less, and no good velocity is ambiguous.
    for name in ARM_NAMES:
        assert ((result[f"noise_{name}"].values < 1.15) | np.isnan(result[f"noise_{name}"].values)).all()
        assert not (result[f"quality_{name}"].values & Quality.AMBIGUOUS_VELOCITY).any()
        # Single stars and the nights of double lines are what the library knows.
        misfit = result[f"misfit_{name}"].values
        np.testing.assert_array_equal(np.isfinite(misfit), np.isfinite(result[f"rv_obs_{name}"].values))
        assert np.nanmax(misfit) < 1.1
        assert not (result[f"quality_{name}"].values & Quality.UNFAMILIAR).any()
    star = result["obsid"].values == 681001015  # the file of 58408
    assert np.abs(result["rv_obs_B"].values[star] + 53).max() < 3
    assert np.abs(result["rv_obs_R"].values[star] + 49).max() < 3
