from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from twinlines.models import checkpoint, tile
from twinlines.models.ensemble import Ensemble
from twinlines.models.inference_member import InferenceMember
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.tile import DeviceTile, HostTile, tile_size

DEEP = NetworkConfig(120, filters=(3, 5, 4), kernels=(7, 5, 3), strides=(1, 2, 1), dense=(12,), clip=0.5)
WITHOUT_DENSE = NetworkConfig(120, filters=(4,), kernels=(9,), strides=(1,), dense=())
ODD = NetworkConfig(120, filters=(3, 5), kernels=(7, 4), strides=(2, 3), dense=(6,))
EVEN = NetworkConfig(120, filters=(5,), kernels=(8,), strides=(4,), dense=(6,))


def test_members_of_different_sizes_share_a_tile(make_network: Callable[..., Network]) -> None:
    """And every place in it, full or not, gives the same bits."""
    networks = [make_network(1), make_network(2, DEEP), make_network(3, WITHOUT_DENSE), make_network(4, ODD)]
    members = [InferenceMember(network, "float32", "cpu") for network in networks]
    rng = np.random.default_rng(0)
    flux = rng.normal(1, 0.2, (8, 120)).astype(np.float32)
    sigma = rng.uniform(0, 0.3, (8, 120)).astype(np.float32)
    keys = np.stack([np.arange(8), np.arange(8)], axis=1)
    with torch.inference_mode():
        judge = HostTile(members, 66, 120, 20)
        size = judge.spectra
        whole = judge(flux[:size], sigma[:size], keys[:size], 3)
        assert whole.shape == (4, size, 20)
        for place in range(size):
            np.testing.assert_array_equal(
                judge(*(a[place : place + 1] for a in (flux, sigma, keys)), 3)[:, 0], whole[:, place]
            )
        made_elsewhere = DeviceTile(members, 66, 120, 20, "cpu", spectra=5)
        for some in (slice(0, 5), slice(3, 5)):
            found = made_elsewhere(flux[some], sigma[some], keys[some], 3)
            expected = np.concatenate(
                [judge(*(a[i : i + 1] for a in (flux, sigma, keys)), 3) for i in range(8)[some]], 1
            )
            np.testing.assert_allclose(found, expected, atol=5e-6)


def test_seeds_of_64_bits_reach_the_device(make_network: Callable[..., Network]) -> None:
    members = [InferenceMember(make_network(1), "float32", "cpu")]
    spectra = np.ones((1, 120), np.float32), np.ones((1, 120), np.float32), np.array([[1, 2]])
    with torch.inference_mode():
        device, host = DeviceTile(members, 66, 120, 4, "cpu", spectra=1), HostTile(members, 66, 120, 4)
        for seed in (0, 2**63, 2**64 - 1):
            np.testing.assert_allclose(device(*spectra, seed), host(*spectra, seed), atol=5e-6)


def test_a_tile_is_one_spectrum_where_places_differ(
    make_network: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [InferenceMember(make_network(5, config), "float32", "cpu") for config in (DEEP, WITHOUT_DENSE)]
    honest = InferenceMember.logits

    def uneven(self: InferenceMember, features: Tensor) -> Tensor:
        found = honest(self, features)
        if self.config == WITHOUT_DENSE:
            found[-1] = torch.nextafter(found[-1], torch.tensor(torch.inf))
        return found

    monkeypatch.setattr(InferenceMember, "logits", uneven)
    # Draws that no other test has: what was found is kept.
    assert tile_size(members, 21) == 1


def test_a_tile_fits_the_cache(make_network: Callable[..., Network], monkeypatch: pytest.MonkeyPatch) -> None:
    member = InferenceMember(make_network(0), "float32", "cpu")
    for spectra in (1, 3):
        monkeypatch.setattr(tile, "_ACTIVATION_BYTES", spectra * 20 * member.activation + 8)
        assert tile_size([member], 20) in (1, spectra)
    monkeypatch.setattr(tile, "_ACTIVATION_BYTES", 1)
    assert tile_size([member], 20) == 1


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_default_sizes_do_not_care_for_company(
    precision: str, tmp_path: Path, make_network: Callable[..., Network]
) -> None:
    """At the sizes that ship: products of other shapes are other kernels."""
    header = checkpoint.Header("B", 16, 1, 0, "toy")
    checkpoint.save(tmp_path / f"{header.stem}.safetensors", make_network(0, NetworkConfig(3347)), header)
    ensemble = Ensemble.load(tmp_path, arms="B", precision=precision, emulate=True)
    rng = np.random.default_rng(1)
    flux = rng.normal(1, 0.1, (10, 3347)).astype(np.float32)
    spectra = flux, np.full_like(flux, 0.05), np.stack([np.arange(10), np.arange(10)], axis=1)
    n_draws = 20 if precision == "float32" else 2
    whole = ensemble.values("B", *spectra, n_draws=n_draws)[16]
    for order in ([9, 3, 1], [4]):
        found = ensemble.values("B", *(array[order] for array in spectra), n_draws=n_draws)[16]
        np.testing.assert_array_equal(found, whole[order])
