from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.models.test_inference_member import DEEP, EVEN, ODD, PIXELS, SHALLOW
from twinlines.models import checkpoint, tile
from twinlines.models.ensemble import Ensemble
from twinlines.models.inference_member import InferenceMember
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.tile import DeviceTile, HostTile, tile_size
from twinlines.models.vocabulary import ARMS

LENGTHS = dict(zip(ARMS, PIXELS, strict=True))
Exposures = tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]], NDArray[np.int64]]


def exposures(count: int) -> Exposures:
    rng = np.random.default_rng(0)
    flux = {arm: rng.normal(1, 0.2, (count, pixels)).astype(np.float32) for arm, pixels in LENGTHS.items()}
    sigma = {arm: rng.uniform(0, 0.3, (count, pixels)).astype(np.float32) for arm, pixels in LENGTHS.items()}
    return flux, sigma, np.stack([np.arange(count), np.arange(count)], axis=1)


def some(of: Exposures, rows: slice, arms: tuple[str, ...] = ARMS) -> Exposures:
    flux, sigma, keys = of
    return {arm: flux[arm][rows] for arm in arms}, {arm: sigma[arm][rows] for arm in arms}, keys[rows]


def equal(found: Mapping[str, NDArray[np.float32]], expected: Mapping[str, NDArray[np.float32]]) -> None:
    for head, values in found.items():
        np.testing.assert_array_equal(values, expected[head])


def test_members_of_different_sizes_share_a_tile(make_network: Callable[..., Network]) -> None:
    """And every place in it, full or not, whichever arms are there, gives the same bits; a device gives the same."""
    configs = (EVEN, NetworkConfig(PIXELS, clip=0.4, **TINY), ODD)
    members = [InferenceMember(make_network(seed, each), "float32", "cpu") for seed, each in enumerate(configs)]
    every = exposures(8)
    with torch.inference_mode():
        judge = HostTile(members, LENGTHS, 20)
        size = judge.exposures
        whole = judge(*some(every, slice(0, size)), 3)
        assert {head: values.shape for head, values in whole.items()} == dict.fromkeys("BRJ", (3, size, 20, 3))
        for place in range(size):
            equal(judge(*some(every, slice(place, place + 1)), 3), {h: v[:, place, None] for h, v in whole.items()})
            for arm in ARMS:
                alone = judge(*some(every, slice(place, place + 1), (arm,)), 3)
                assert list(alone) == [arm]
                equal(alone, {arm: whole[arm][:, place, None]})
        elsewhere = DeviceTile(members, LENGTHS, 20, "cpu", exposures=5)
        for rows in (slice(0, 5), slice(3, 5), slice(5, 8)):
            one_by_one = [judge(*some(every, slice(i, i + 1)), 3) for i in range(8)[rows]]
            found = elsewhere(*some(every, rows), 3)
            assert list(found) == ["B", "R", "J"]
            for head, values in found.items():
                np.testing.assert_allclose(values, np.concatenate([o[head] for o in one_by_one], axis=1), atol=5e-5)
            for arm in ARMS:
                alone = elsewhere(*some(every, rows, (arm,)), 3)
                assert list(alone) == [arm]
                equal(alone, found)


TINY = {"filters": (4, 3), "kernels": (6, 4), "strides": (3, 2), "features": 5, "head": (4,), "joint": (4,)}


def test_seeds_of_64_bits_reach_the_device(make_network: Callable[..., Network]) -> None:
    members = [InferenceMember(make_network(1), "float32", "cpu")]
    one = exposures(1)
    with torch.inference_mode():
        device, host = DeviceTile(members, LENGTHS, 4, "cpu", exposures=1), HostTile(members, LENGTHS, 4)
        for seed in (0, 2**63, 2**64 - 1):
            found, expected = device(*one, seed), host(*one, seed)
            for head, values in expected.items():
                np.testing.assert_allclose(found[head], values, atol=1e-5)


def test_a_tile_is_one_exposure_where_places_differ(
    make_network: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [InferenceMember(make_network(5, config), "float32", "cpu") for config in (DEEP, SHALLOW)]
    honest = InferenceMember.verdicts

    def uneven(self: InferenceMember, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = honest(self, features)
        if self.config == SHALLOW:
            found["J"][-1] = torch.nextafter(found["J"][-1], torch.tensor(torch.inf))
        return found

    monkeypatch.setattr(InferenceMember, "verdicts", uneven)
    # Draws that no other test has: what was found is kept.
    assert tile_size(members, 21) == 1


def test_a_tile_fits_the_cache(make_network: Callable[..., Network], monkeypatch: pytest.MonkeyPatch) -> None:
    member = InferenceMember(make_network(0), "float32", "cpu")
    assert member.activation == 4 * 4 * ((131 - 8) // 4 + 1)
    for count in (1, 3):
        monkeypatch.setattr(tile, "_ACTIVATION_BYTES", count * 20 * member.activation + 8)
        assert tile_size([member], 20) in (1, count)
    monkeypatch.setattr(tile, "_ACTIVATION_BYTES", 1)
    assert tile_size([member], 20) == 1


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_default_sizes_do_not_care_for_company(
    precision: str, tmp_path: Path, make_network: Callable[..., Network]
) -> None:
    """At the sizes that ship: products of other shapes are other kernels."""
    network = make_network(0, NetworkConfig((3347, 3509)))
    checkpoint.save(tmp_path / "member_1.safetensors", network, checkpoint.Header(1, 0, "toy"))
    ensemble = Ensemble.load(tmp_path, precision=precision, emulate=True)
    rng = np.random.default_rng(1)
    flux = {arm: rng.normal(1, 0.1, (10, pixels)).astype(np.float32) for arm, pixels in ensemble.pixels.items()}
    keys = np.stack([np.arange(10), np.arange(10)], axis=1)
    n_draws = 20 if precision == "float32" else 2
    whole = ensemble.values(flux, dict.fromkeys(ARMS, 0.05), keys, n_draws=n_draws)
    for order in ([9, 3, 1], [4]):
        mine = {arm: each[order] for arm, each in flux.items()}
        mine["B"][-1, 7] = np.nan  # its neighbours, and its own red arm, do not see that
        found = ensemble.values(mine, dict.fromkeys(ARMS, 0.05), keys[order], n_draws=n_draws)
        for head in ("B", "R", "J"):
            judged = len(order) if head == "R" else len(order) - 1
            np.testing.assert_array_equal(found[head][16][:judged], whole[head][16][order][:judged])
            assert np.isnan(found[head][16][judged:]).all()
