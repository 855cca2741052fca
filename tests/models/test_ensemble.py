from collections.abc import Callable
from dataclasses import replace
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
from twinlines.models.vocabulary import ARMS, HEADS

PIXELS = {"B": 120, "R": 131}
Fluxes = dict[str, NDArray[np.float32]]
Exposures = tuple[Fluxes, Fluxes, NDArray[np.int64]]


@pytest.fixture(scope="module")
def spectra() -> Exposures:
    """Flux, error and keys of nine exposures."""
    rng = np.random.default_rng(0)
    flux = {arm: rng.normal(1.0, 0.2, (9, pixels)).astype(np.float32) for arm, pixels in PIXELS.items()}
    sigma = {arm: rng.uniform(0.05, 0.3, (9, pixels)).astype(np.float32) for arm, pixels in PIXELS.items()}
    return flux, sigma, np.stack([np.arange(9) + 10**8, np.full(9, 84_000_000)], axis=1)


def copied(spectra: Exposures, rows: list[int] | slice = slice(None)) -> Exposures:
    flux, sigma, keys = spectra
    flux, sigma = ({arm: values[rows].copy() for arm, values in each.items()} for each in (flux, sigma))
    return flux, sigma, keys[rows].copy()


def networks_of(folder: Path) -> list[Network]:
    return [checkpoint.load(path)[0] for path in checkpoint.members(folder)]


def test_values_are_every_draw_by_every_member(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    folder = make_ensemble(members=3)
    flux, sigma, keys = spectra
    values = Ensemble.load(folder).values(flux, sigma, keys, seed=5, n_draws=4)
    assert tuple(values) == HEADS
    noisy = {
        arm: torch.from_numpy(flux[arm][:, None] + sigma[arm][:, None] * normal(keys, ord(arm), 5, 4, PIXELS[arm]))
        for arm in ARMS
    }
    with torch.no_grad():
        judged = [network({arm: each.flatten(0, 1) for arm, each in noisy.items()}) for network in networks_of(folder)]
    for head in HEADS:
        assert list(values[head]) == [8, 16]
        for place, found in enumerate(values[head].values()):
            expected = torch.sigmoid(torch.stack([each[head][:, place] for each in judged], dim=1))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected.numpy().reshape(9, 12), atol=1e-5)
    assert float(values["J"][16].std()) > 0.1


def test_one_arm_is_judged_without_the_other(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    flux, sigma, keys = spectra
    ensemble = Ensemble.load(make_ensemble())
    whole = ensemble.values(flux, sigma, keys, n_draws=4)
    for arm in ARMS:
        found = ensemble.values({arm: flux[arm]}, {arm: sigma[arm]}, keys, n_draws=4)
        assert list(found) == [arm]
        for penalty, values in found[arm].items():
            np.testing.assert_array_equal(values, whole[arm][penalty])


def test_percentiles_are_those_of_the_values(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    ensemble = Ensemble.load(make_ensemble())
    values = ensemble.values(*spectra, n_draws=10)
    percentiles = ensemble.percentiles(*spectra, n_draws=10)
    assert tuple(percentiles) == HEADS
    for head in HEADS:
        for penalty, found in percentiles[head].items():
            mine = values[head][penalty]
            assert found.dtype == np.float32
            assert found.shape == (9, 5)
            np.testing.assert_allclose(found, np.percentile(mine, [0, 16, 50, 84, 100], axis=1).T, rtol=1e-6)
            np.testing.assert_array_equal(found[:, [0, 4]], np.stack([mine.min(axis=1), mine.max(axis=1)], axis=1))


def test_sigma_may_be_a_number_and_arrays_may_be_lists(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    flux, _, keys = spectra
    ensemble = Ensemble.load(make_ensemble())
    each = np.linspace(0.05, 0.1, 9, dtype=np.float32)[:, None]
    lists = {arm: values.tolist() for arm, values in flux.items()}
    for sigma in (0.05, {arm: np.full(pixels, 0.05) for arm, pixels in PIXELS.items()}, each):
        by_arm = sigma if isinstance(sigma, dict) else dict.fromkeys(ARMS, sigma)
        whole = {arm: np.broadcast_to(np.asarray(by_arm[arm], np.float32), flux[arm].shape).copy() for arm in ARMS}
        expected = ensemble.percentiles(flux, whole, keys)["J"][16]
        np.testing.assert_array_equal(ensemble.percentiles(flux, by_arm, keys)["J"][16], expected)
        np.testing.assert_array_equal(ensemble.percentiles(lists, by_arm, keys.tolist())["J"][16], expected)
    negative = ensemble.percentiles(flux, dict.fromkeys(ARMS, -1.0), keys)
    assert all(np.isnan(negative[head][16]).all() for head in HEADS)


@pytest.fixture(scope="module")
def shared_ensembles(
    tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Network]
) -> dict[str, Ensemble]:
    """The same members in both precisions, for properties that want many examples."""
    folder = tmp_path_factory.mktemp("ensemble")
    for member in (1, 2):
        header = checkpoint.Header(member, 0, "toy")
        checkpoint.save(folder / f"{header.stem}.safetensors", make_network(member), header)
    return {each: Ensemble.load(folder, precision=each, emulate=True) for each in ("float32", "mixed")}


ROWS_LOST = st.dictionaries(st.integers(0, 11), st.sampled_from(["B", "R", "BR"]))


@pytest.mark.parametrize("precision", ["float32", "mixed"])
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 8), min_size=1, max_size=12), missing=ROWS_LOST)
def test_a_row_depends_on_no_other_bit_for_bit(
    precision: str,
    rows: list[int],
    missing: dict[int, str],
    shared_ensembles: dict[str, Ensemble],
    spectra: Exposures,
) -> None:
    """Nor on which arms its neighbours have; without one of its arms it has no verdict of both."""
    ensemble = shared_ensembles[precision]
    whole = ensemble.values(*spectra, n_draws=6)
    flux, sigma, keys = copied(spectra, rows)
    expected = {head: whole[head][16][rows].copy() for head in HEADS}
    for row, arms in missing.items():
        if row < len(rows):
            for arm in arms:
                flux[arm][row, 17] = np.nan
                expected[arm][row] = expected["J"][row] = np.nan
    found = ensemble.values(flux, sigma, keys, n_draws=6)
    for head in HEADS:
        np.testing.assert_array_equal(found[head][16], expected[head])


def test_fewer_draws_are_the_first_of_more(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    ensemble = Ensemble.load(make_ensemble())
    many, few = (ensemble.values(*spectra, n_draws=n_draws) for n_draws in (20, 5))
    for head in HEADS:
        # A tile of another shape may be summed in another order; the noise is the same.
        np.testing.assert_allclose(few[head][16], many[head][16][:, : few[head][16].shape[1]], atol=1e-5)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    ("where", "value"),
    [("flux", np.nan), ("flux", np.inf), ("flux", -np.inf), ("sigma", np.nan), ("sigma", np.inf), ("sigma", -0.1)],
)
def test_rows_that_cannot_be_judged_are_nan(
    where: str, value: float, arm: str, make_ensemble: Callable[..., Path], spectra: Exposures
) -> None:
    flux, sigma, keys = copied(spectra)
    {"flux": flux, "sigma": sigma}[where][arm][4, 100] = value
    found = Ensemble.load(make_ensemble()).percentiles(flux, sigma, keys, n_draws=3)
    for head in HEADS:
        lost = np.arange(9) == (4 if head in (arm, "J") else -1)
        for percentiles in found[head].values():
            np.testing.assert_array_equal(np.isnan(percentiles).all(axis=1), lost)
            np.testing.assert_array_equal(np.isnan(percentiles).any(axis=1), lost)


def test_without_error_every_draw_is_the_spectrum(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    folder = make_ensemble()
    flux, _, keys = spectra
    found = Ensemble.load(folder).values(flux, dict.fromkeys(ARMS, 0.0), keys, n_draws=3)
    with torch.no_grad():
        judged = [network({arm: torch.from_numpy(flux[arm]) for arm in ARMS}) for network in networks_of(folder)]
    for head in HEADS:
        expected = torch.sigmoid(torch.stack([each[head][:, 1] for each in judged], dim=1)).numpy()
        np.testing.assert_allclose(found[head][16], np.tile(expected, (1, 3)), atol=1e-5)


def test_pixels_without_error_are_pixels_without_noise(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    flux, sigma, keys = copied(spectra)
    for arm in ARMS:
        sigma[arm][:, 10:] = 0.0
    found = Ensemble.load(make_ensemble()).percentiles(flux, sigma, keys)
    assert all(np.isfinite(found[head][16]).all() for head in HEADS)


def test_mixed_precision_moves_medians_little() -> None:
    """The ensemble that ships, the same noise; ``benchmarks/ensemble.py`` does it at full size."""
    found = mixed_against_float32(24, n_draws=4)
    assert 0.1 < found["medians_above_half"] < 0.9
    assert 0 < found["p99_of_change"] < 0.02
    assert found["crossed_half_by_more_than_0.02"] == 0


def test_no_rows_give_no_rows(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    found = Ensemble.load(make_ensemble()).percentiles(*copied(spectra, slice(0, 0)))
    for head in HEADS:
        assert {penalty: each.shape for penalty, each in found[head].items()} == {8: (0, 5), 16: (0, 5)}


def test_noise_of_other_seeds_and_arms_differs(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    ensemble = Ensemble.load(make_ensemble())
    first, second = (ensemble.values(*spectra, seed=seed) for seed in (0, 1))
    for head in HEADS:
        assert (first[head][16] != second[head][16]).mean() > 0.99


def test_the_precision_in_use_is_recorded(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    folder = make_ensemble()
    exact, mixed = (Ensemble.load(folder, precision=precision) for precision in ("float32", "mixed"))
    assert exact.precision == "float32"
    assert mixed.precision == ("mixed" if has_bfloat16("cpu") else "float32")
    assert exact.digest == mixed.digest == checkpoint.digest(folder)
    rounded, values = mixed.values(*spectra), exact.values(*spectra)
    for head in HEADS:
        assert float(np.abs(rounded[head][16] - values[head][16]).mean()) < 0.02
    with pytest.raises(ValueError, match="float8"):
        resolve("float8", "cpu")


def test_it_says_what_it_is(make_ensemble: Callable[..., Path]) -> None:
    ensemble = Ensemble.load(make_ensemble())
    assert ensemble.penalties == (8, 16)
    assert ensemble.pixels == PIXELS
    assert repr(ensemble).startswith("<Ensemble: 2 members, each for both arms (B, R, J), penalties 8, 16\n float32 on")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(make_ensemble: Callable[..., Path]) -> None:
    with pytest.raises(EnsembleError, match=r"torch \S+ finds no GPU; look at 'nvidia-smi'"):
        Ensemble.load(make_ensemble(), device="cuda")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no weights"):
        Ensemble.load(tmp_path)


def test_a_misnamed_member_is_refused(make_ensemble: Callable[..., Path]) -> None:
    folder = make_ensemble()
    (folder / "member_2.safetensors").rename(folder / "member_3.safetensors")
    with pytest.raises(CheckpointError, match=r"member_3\.safetensors calls itself member_2"):
        Ensemble.load(folder)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pixels": (120, 132)}, r"member_3.* has pixels \(120, 132\), other members of .* have \(120, 131\)"),
        ({"penalties": (8, 32)}, r"member_3.* has penalties \(8, 32\), other members of .* have \(8, 16\)"),
    ],
)
def test_members_that_disagree_are_refused(
    changed: dict[str, tuple[int, ...]],
    said: str,
    small: NetworkConfig,
    make_ensemble: Callable[..., Path],
    make_network: Callable[..., Network],
) -> None:
    folder = make_ensemble()
    odd = make_network(0, replace(small, **changed))  # type: ignore[arg-type]
    checkpoint.save(folder / "member_3.safetensors", odd, checkpoint.Header(3, 0, "toy"))
    with pytest.raises(CheckpointError, match=said):
        Ensemble.load(folder)


def test_members_may_be_of_other_sizes(
    small: NetworkConfig, make_ensemble: Callable[..., Path], make_network: Callable[..., Network], spectra: Exposures
) -> None:
    folder = make_ensemble()
    other = make_network(0, replace(small, filters=(3,), kernels=(5,), strides=(3,), features=4))
    checkpoint.save(folder / "member_3.safetensors", other, checkpoint.Header(3, 0, "toy"))
    assert Ensemble.load(folder).values(*spectra, n_draws=2)["J"][8].shape == (9, 6)


def test_shapes_that_do_not_fit_are_refused(make_ensemble: Callable[..., Path], spectra: Exposures) -> None:
    flux, sigma, keys = spectra
    ensemble = Ensemble.load(make_ensemble())
    with pytest.raises(EnsembleError, match=r"flux of arm R is \(9, 130\).*must be \(9, 131\).*take 131 pixels"):
        ensemble.values({**flux, "R": flux["R"][:, :-1]}, sigma, keys)
    with pytest.raises(EnsembleError, match=r"sigma \(9,\).*sigma may be a number, \(120,\) or \(9, 1\)"):
        ensemble.values(flux, {**sigma, "B": sigma["B"][:, 0]}, keys)
    with pytest.raises(EnsembleError, match=r"keys are int64 of shape \(9,\); they must be whole numbers of shape"):
        ensemble.values(flux, sigma, keys[:, 0])
    with pytest.raises(EnsembleError, match="keys are float64"):
        ensemble.values(flux, sigma, keys.astype(float))
    with pytest.raises(EnsembleError, match="0 draws"):
        ensemble.values(flux, sigma, keys, n_draws=0)
    for wrong in ({}, {"B": flux["B"]}, {"B": flux["B"], "X": flux["R"]}):
        with pytest.raises(EnsembleError, match=r"flux of arms .* give both of the same arms, of \['B', 'R'\]"):
            ensemble.values(wrong, sigma, keys)
