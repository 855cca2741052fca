"""A member made ready to judge says what the network as trained says, whatever its sizes."""

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from twinlines.models.inference_member import InferenceMember, InferenceTrunk
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.vocabulary import ARMS

PIXELS = (120, 131)
DEEP = NetworkConfig(
    PIXELS, (2, 4), filters=(3, 5, 4), kernels=(7, 5, 3), strides=(1, 2, 1), features=12, head=(), joint=(7,), clip=0.5
)
SHALLOW = NetworkConfig(PIXELS, (16,), filters=(4,), kernels=(9,), strides=(1,), features=5, head=(4, 3), joint=())
ODD = NetworkConfig(PIXELS, filters=(3, 5), kernels=(7, 4), strides=(2, 3), features=6, head=(5,), joint=(5,))
EVEN = NetworkConfig(PIXELS, filters=(5,), kernels=(8,), strides=(4,), dense=(7, 9), features=6, head=(5,), joint=(5,))
GAPS = NetworkConfig(PIXELS, filters=(5, 3), kernels=(3, 2), strides=(4, 3), features=6, head=(5,), joint=(5,))


def deviations(config: NetworkConfig, count: int, scale: float = 0.5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn = {arm: scale * torch.randn(count, config.pixels_of(arm), generator=generator) for arm in ARMS}
    drawn["B"][0, 3], drawn["R"][1, 5] = 40.0, -40.0
    return drawn


def trained(network: Network, deviation: dict[str, Tensor]) -> dict[str, Tensor]:
    return network({arm: 1.0 + each for arm, each in deviation.items()})  # type: ignore[no-any-return]


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float, atol: float) -> None:
    assert found.keys() == expected.keys()
    for head, logits in expected.items():
        assert found[head].dtype == torch.float32
        torch.testing.assert_close(found[head], logits, rtol=rtol, atol=atol)


def test_folded_default_architecture_is_unfolded() -> None:
    torch.manual_seed(0)
    network = Network(NetworkConfig((3347, 3509)))
    with torch.inference_mode():
        trained(network.train(), deviations(network.config, 16, 0.1))
        some = deviations(network.config, 4, 0.1)
        assert_same(InferenceMember(network, "float32", "cpu")(some), trained(network.eval(), some), 1e-5, 1e-5)


@pytest.mark.parametrize("config", [None, DEEP, SHALLOW, ODD, EVEN, GAPS])
def test_folded_is_unfolded_whatever_the_sizes(
    config: NetworkConfig | None, make_network: Callable[..., Network]
) -> None:
    network = make_network(2) if config is None else make_network(2, config)
    some = deviations(network.config, 30)
    copies = {arm: each.clone() for arm, each in some.items()}
    with torch.inference_mode():
        # In float64, since the heads of such small networks magnify what float32 rounds off.
        doubled = trained(copy.deepcopy(network).double(), {arm: each.double() for arm, each in some.items()})
        expected = {head: logits.float() for head, logits in doubled.items()}
        exact, mixed = (InferenceMember(network, name, "cpu") for name in ("float32", "mixed"))  # type: ignore[arg-type]
        assert_same(exact(some), expected, 1e-5, 2e-4)
        rounded = mixed(some)
        for arm in ARMS:  # an arm alone
            assert_same(exact({arm: some[arm]}), {arm: expected[arm]}, 1e-5, 2e-4)
    assert all(not torch.equal(rounded[head], expected[head]) for head in expected)
    for head, logits in expected.items():
        assert rounded[head].dtype == torch.float32
        rms = (rounded[head] - logits).square().mean().sqrt()
        assert float(rms) < 0.35 * float(logits.std())
    assert all(torch.equal(some[arm], copies[arm]) for arm in ARMS)  # what it is given stays as it is


def test_a_dense_layer_on_other_devices_is_the_same_product(make_network: Callable[..., Network]) -> None:
    """What a GPU computes, made of the same weights; here with the CPU's arithmetic."""
    network = make_network(4)
    here = InferenceTrunk(network.trunk("R"), torch.float32, "cpu")
    there = InferenceTrunk(network.trunk("R"), torch.float32, "meta")
    weight, _ = there.dense
    assert weight.shape == (network.config.features, network.trunk("R").dense.layers[0].in_features)  # type: ignore[union-attr]
    columns = here.dense[0].squeeze(2).transpose(1, 2).flatten(1)
    there.dense, there.convolutions = (columns, here.dense[1]), here.convolutions
    laid = here.layout.of(deviations(network.config, 20)["R"])
    with torch.inference_mode():
        torch.testing.assert_close(there(laid), here(laid), rtol=1e-5, atol=1e-5)


def test_spectra_are_laid_out_in_blocks_of_the_stride(make_network: Callable[..., Network]) -> None:
    # Of ODD's 57 windows, the second convolution's kernel of 4 at stride 3 leaves out the last two: 55 + 4 - 1 blocks.
    for config, stride, blocks in ((DEEP, 1, 119), (ODD, 2, 58), (EVEN, 4, 30), (GAPS, 4, 29)):
        layout = InferenceMember(make_network(0, config), "float32", "cpu").trunks["B"].layout
        assert (layout.stride, layout.blocks) == (stride, blocks)
        room = layout.empty(2)
        assert room.shape == (2, blocks, stride)
        layout.fill(room, torch.full((2, 120), -5.0))
        assert room[1, 3].tolist() == [-config.clip] * stride
        spectra = torch.arange(240.0).view(2, 120) / 1000
        layout.fill(room, spectra)
        torch.testing.assert_close(room.flatten(1), spectra[:, : blocks * stride])


def test_spectra_shorter_than_their_blocks_end_in_continuum(make_network: Callable[..., Network]) -> None:
    config = NetworkConfig((120, 121), filters=(3,), kernels=(5,), strides=(4,), features=4, head=(), joint=())
    layout = InferenceMember(make_network(0, config), "float32", "cpu").trunks["R"].layout
    laid = layout.of(torch.ones(3, 121)).flatten(1)
    assert laid.shape == (3, 124)
    assert laid[:, :121].eq(1.0).all()
    assert laid[:, 121:].eq(0.0).all()


def test_operations_are_those_of_the_layers(make_network: Callable[..., Network]) -> None:
    for config in (DEEP, SHALLOW, EVEN):
        products = 0
        for arm in ARMS:
            sizes = zip(config.lengths(arm), config.kernels, pairwise((1, *config.filters)), strict=True)
            products += sum(length * kernel * before * after for length, kernel, (before, after) in sizes)
            flat = config.filters[-1] * config.lengths(arm)[-1]
            products += sum(a * b for a, b in pairwise((flat, *config.dense, config.features)))
        heads = ((config.features, config.head), (config.features, config.head), (2 * config.features, config.joint))
        for seen, hidden in heads:
            products += sum(a * b for a, b in pairwise((seen, *hidden, len(config.penalties))))
        assert InferenceMember(make_network(0, config), "float32", "cpu").operations == 2 * products
