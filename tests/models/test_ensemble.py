from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.ensemble import mixed_against_float32
from twinlines.models import checkpoint
from twinlines.models.checkpoint import CheckpointError
from twinlines.models.ensemble import Ensemble, EnsembleError
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.noise import normal
from twinlines.models.precision import has_bfloat16, resolve

Spectra = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


@pytest.fixture(scope="module")
def spectra() -> Spectra:
    rng = np.random.default_rng(0)
    flux = rng.normal(1.0, 0.2, (9, 120)).astype(np.float32)
    sigma = rng.uniform(0.05, 0.3, (9, 120)).astype(np.float32)
    return flux, sigma, np.stack([np.arange(9) + 10**8, np.full(9, 84_000_000)], axis=1)


def test_values_are_every_draw_by_every_member(make_ensemble: Callable[..., Path], spectra: Spectra) -> None:
    folder = make_ensemble(members=3)
    flux, sigma, keys = spectra
    values = Ensemble.load(folder).values("R", flux, sigma, keys, seed=5, n_draws=4)
    assert list(values) == [8, 16]
    noisy = flux[:, None] + sigma[:, None] * normal(keys, ord("R"), 5, 4, 120)
    for penalty, found in values.items():
        networks = [checkpoint.load(folder / f"R_p{penalty}_m{m}.safetensors")[0] for m in (1, 2, 3)]
        with torch.no_grad():
            expected = torch.stack([n.probability(torch.from_numpy(noisy).flatten(0, 1)) for n in networks], dim=1)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected.numpy().reshape(9, 12), atol=2e-6)


def test_percentiles_are_those_of_the_values(make_ensemble: Callable[..., Path], spectra: Spectra) -> None:
    ensemble = Ensemble.load(make_ensemble(penalties=(16,)))
    values = ensemble.values("B", *spectra, n_draws=10)[16]
    found = ensemble.percentiles("B", *spectra, n_draws=10)[16]
    assert found.dtype == np.float32
    assert found.shape == (9, 5)
    np.testing.assert_allclose(found, np.percentile(values, [0, 16, 50, 84, 100], axis=1).T, rtol=1e-6)
    np.testing.assert_array_equal(found[:, [0, 4]], np.stack([values.min(axis=1), values.max(axis=1)], axis=1))


def test_sigma_may_be_a_number_and_arrays_may_be_lists(make_ensemble: Callable[..., Path], spectra: Spectra) -> None:
    flux, _, keys = spectra
    ensemble = Ensemble.load(make_ensemble())
    each = np.linspace(0.05, 0.1, 9, dtype=np.float32)[:, None]
    for sigma in (0.05, np.full(120, 0.05), each):
        whole = np.broadcast_to(np.asarray(sigma, np.float32), flux.shape).copy()
        expected = ensemble.percentiles("B", flux, whole, keys)[16]
        np.testing.assert_array_equal(ensemble.percentiles("B", flux, sigma, keys)[16], expected)
        np.testing.assert_array_equal(ensemble.percentiles("B", flux.tolist(), sigma, keys.tolist())[16], expected)
    assert np.isnan(ensemble.percentiles("B", flux, -1.0, keys)[16]).all()


@pytest.fixture(scope="module")
def shared_ensembles(
    tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Network]
) -> dict[str, Ensemble]:
    """The same members in both precisions, for properties that want many examples."""
    folder = tmp_path_factory.mktemp("ensemble")
    for member in (1, 2):
        header = checkpoint.Header("B", 16, member, 0, "toy")
        checkpoint.save(folder / f"{header.stem}.safetensors", make_network(member), header)
    return {each: Ensemble.load(folder, precision=each, arms="B", emulate=True) for each in ("float32", "mixed")}


@pytest.mark.parametrize("precision", ["float32", "mixed"])
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 8), min_size=1, max_size=12), missing=st.sets(st.integers(0, 11)))
def test_a_row_depends_on_no_other_bit_for_bit(
    precision: str, rows: list[int], missing: set[int], shared_ensembles: dict[str, Ensemble], spectra: Spectra
) -> None:
    ensemble = shared_ensembles[precision]
    whole = ensemble.values("B", *spectra)[16]
    flux, sigma, keys = (array[rows] for array in spectra)
    lost = sorted(index for index in missing if index < len(rows))
    flux[lost, 17] = np.nan
    found = ensemble.values("B", flux, sigma, keys)[16]
    expected = whole[rows]
    expected[lost] = np.nan
    np.testing.assert_array_equal(found, expected)


def test_fewer_draws_are_the_first_of_more(make_ensemble: Callable[..., Path], spectra: Spectra) -> None:
    ensemble = Ensemble.load(make_ensemble(penalties=(16,)))
    many = ensemble.values("B", *spectra, n_draws=20)[16]
    few = ensemble.values("B", *spectra, n_draws=5)[16]
    # A tile of another shape may be summed in another order; the noise is the same.
    np.testing.assert_allclose(few, many[:, : few.shape[1]], atol=1e-6)


@pytest.mark.parametrize(
    ("where", "value"),
    [("flux", np.nan), ("flux", np.inf), ("flux", -np.inf), ("sigma", np.nan), ("sigma", np.inf), ("sigma", -0.1)],
)
def test_rows_that_cannot_be_judged_are_nan(
    where: str, value: float, make_ensemble: Callable[..., Path], spectra: Spectra
) -> None:
    flux, sigma, keys = (array.copy() for array in spectra)
    {"flux": flux, "sigma": sigma}[where][4, 100] = value
    found = Ensemble.load(make_ensemble()).percentiles("B", flux, sigma, keys, n_draws=3)
    for percentiles in found.values():
        np.testing.assert_array_equal(np.isnan(percentiles).all(axis=1), np.arange(9) == 4)
        np.testing.assert_array_equal(np.isnan(percentiles).any(axis=1), np.arange(9) == 4)


def test_without_error_every_draw_is_the_spectrum(make_ensemble: Callable[..., Path], spectra: Spectra) -> None:
    folder = make_ensemble(arms="B", penalties=(16,))
    flux, sigma, keys = spectra
    found = Ensemble.load(folder, arms="B").values("B", flux, np.zeros_like(sigma), keys, n_draws=3)[16]
    networks = [checkpoint.load(path)[0] for path in checkpoint.members(folder)]
    with torch.no_grad():
        expected = torch.stack([network.probability(torch.from_numpy(flux)) for network in networks], dim=1)
    np.testing.assert_allclose(found, np.tile(expected.numpy(), (1, 3)), atol=2e-6)


def test_mixed_precision_moves_medians_little() -> None:
    """The ensemble that ships, the same noise; ``benchmarks/ensemble.py`` does it at full size."""
    found = mixed_against_float32(40, n_draws=4)
    assert 0.1 < found["medians_above_half"] < 0.9
    assert 0 < found["p99_of_change"] < 0.02
    assert found["crossed_half_by_more_than_0.02"] == 0


def test_no_rows_give_no_rows(make_ensemble: Callable[..., Path], spectra: Spectra) -> None:
    found = Ensemble.load(make_ensemble()).percentiles("B", *(array[:0] for array in spectra))
    assert {penalty: each.shape for penalty, each in found.items()} == {8: (0, 5), 16: (0, 5)}


def test_noise_of_other_seeds_differs(make_ensemble: Callable[..., Path], spectra: Spectra) -> None:
    ensemble = Ensemble.load(make_ensemble())
    first, second = (ensemble.values("B", *spectra, seed=seed)[16] for seed in (0, 1))
    assert (first != second).mean() > 0.99


def test_the_precision_in_use_is_recorded(make_ensemble: Callable[..., Path], spectra: Spectra) -> None:
    folder = make_ensemble()
    exact, mixed = (Ensemble.load(folder, precision=precision) for precision in ("float32", "mixed"))
    assert exact.precision == "float32"
    assert mixed.precision == ("mixed" if has_bfloat16("cpu") else "float32")
    assert exact.digest == mixed.digest == checkpoint.digest(folder)
    np.testing.assert_allclose(mixed.values("B", *spectra)[16], exact.values("B", *spectra)[16], atol=0.02)
    with pytest.raises(ValueError, match="float8"):
        resolve("float8", "cpu")


def test_a_folder_that_lacks_an_arm_is_refused(make_ensemble: Callable[..., Path]) -> None:
    folder = make_ensemble(arms="B")
    with pytest.raises(CheckpointError, match=r"no member for arm R; it has \['B'\]"):
        Ensemble.load(folder)
    ensemble = Ensemble.load(folder, arms=("B",))
    assert ensemble.penalties("B") == (8, 16)
    with pytest.raises(EnsembleError, match="no member for arm 'R'"):
        ensemble.penalties("R")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(make_ensemble: Callable[..., Path]) -> None:
    with pytest.raises(EnsembleError, match=r"torch \S+ finds no GPU; look at 'nvidia-smi'"):
        Ensemble.load(make_ensemble(), device="cuda")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no weights"):
        Ensemble.load(tmp_path)


def test_a_misnamed_member_is_refused(make_ensemble: Callable[..., Path]) -> None:
    folder = make_ensemble()
    (folder / "B_p16_m2.safetensors").rename(folder / "B_p32_m2.safetensors")
    with pytest.raises(CheckpointError, match=r"B_p32_m2\.safetensors calls itself B_p16_m2"):
        Ensemble.load(folder)


def test_a_member_of_another_arm_is_refused(make_ensemble: Callable[..., Path]) -> None:
    folder = make_ensemble()
    (folder / "R_p16_m1.safetensors").replace(folder / "B_p16_m1.safetensors")
    with pytest.raises(CheckpointError, match=r"B_p16_m1\.safetensors calls itself R_p16_m1"):
        Ensemble.load(folder)


def test_members_of_other_lengths_are_refused(
    make_ensemble: Callable[..., Path], make_network: Callable[..., Network]
) -> None:
    folder = make_ensemble()
    header = checkpoint.Header("B", 16, 3, 0, "toy")
    checkpoint.save(folder / f"{header.stem}.safetensors", make_network(0, NetworkConfig(400)), header)
    with pytest.raises(CheckpointError, match="takes 400 pixels, other members of arm B take 120"):
        Ensemble.load(folder)


def test_shapes_that_do_not_fit_are_refused(make_ensemble: Callable[..., Path], spectra: Spectra) -> None:
    flux, sigma, keys = spectra
    ensemble = Ensemble.load(make_ensemble())
    with pytest.raises(EnsembleError, match=r"flux is \(9, 119\).*must be \(9, 120\).*arm B take 120 pixels"):
        ensemble.values("B", flux[:, :-1], sigma, keys)
    with pytest.raises(EnsembleError, match=r"sigma \(9,\).*sigma may be a number, \(120,\) or \(9, 1\)"):
        ensemble.values("B", flux, sigma[:, 0], keys)
    with pytest.raises(EnsembleError, match=r"keys are int64 of shape \(9,\); they must be whole numbers of shape"):
        ensemble.values("B", flux, sigma, keys[:, 0])
    with pytest.raises(EnsembleError, match="keys are float64"):
        ensemble.values("B", flux, sigma, keys.astype(float))
    with pytest.raises(EnsembleError, match="0 draws"):
        ensemble.values("B", flux, sigma, keys, n_draws=0)
