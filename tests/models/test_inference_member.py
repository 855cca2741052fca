"""A member made ready to judge says what the network as trained says, whatever its sizes."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from twinlines.models.inference_member import InferenceMember, Pixels, Windows
from twinlines.models.network import Network, NetworkConfig

DEEP = NetworkConfig(120, filters=(3, 5, 4), kernels=(7, 5, 3), strides=(1, 2, 1), dense=(12,), clip=0.5)
WITHOUT_DENSE = NetworkConfig(120, filters=(4,), kernels=(9,), strides=(1,), dense=())
ODD = NetworkConfig(120, filters=(3, 5), kernels=(7, 4), strides=(2, 3), dense=(6,))
EVEN = NetworkConfig(120, filters=(5,), kernels=(8,), strides=(4,), dense=(6,))


def test_folded_is_unfolded(make_network: Callable[..., Network]) -> None:
    network = make_network(3)
    flux = 1 + 0.5 * torch.randn(50, 120, generator=torch.Generator().manual_seed(1))
    flux[0, 3] = 40.0
    with torch.no_grad():
        torch.testing.assert_close(
            InferenceMember(network, "float32", "cpu")(flux - 1), network(flux), rtol=1e-5, atol=1e-5
        )


def test_folded_default_architecture_is_unfolded() -> None:
    torch.manual_seed(0)
    network = Network(NetworkConfig(3347))
    with torch.no_grad():
        network.train()(1 + 0.1 * torch.randn(16, 3347))
        flux = 1 + 0.1 * torch.randn(4, 3347)
        expected = network.eval()(flux)
        torch.testing.assert_close(InferenceMember(network, "float32", "cpu")(flux - 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [DEEP, WITHOUT_DENSE, ODD, EVEN])
def test_folded_is_unfolded_whatever_the_sizes(config: NetworkConfig, make_network: Callable[..., Network]) -> None:
    network = make_network(2, config)
    flux = 1 + 0.5 * torch.randn(30, 120, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(flux)
        torch.testing.assert_close(InferenceMember(network, "float32", "cpu")(flux - 1), expected, rtol=1e-5, atol=1e-5)
        rounded = InferenceMember(network, "mixed", "cpu")(flux - 1)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, expected)
    torch.testing.assert_close(rounded, expected, rtol=0.05, atol=0.3)


def test_the_first_convolution_is_a_product_where_windows_overlap_little(
    make_network: Callable[..., Network],
) -> None:
    assert type(InferenceMember(make_network(0, DEEP), "float32", "cpu").layout) is Pixels
    # Of ODD's 57 windows, the second convolution's kernel of 4 at stride 3 leaves out the last two.
    for config, columns, count in ((ODD, 8, 55), (EVEN, 10, 29)):
        layout = InferenceMember(make_network(0, config), "float32", "cpu").layout
        assert isinstance(layout, Windows)
        room = layout.empty(2, 120)
        assert room.shape == (2, count, columns)
        layout.fill(room, torch.full((2, 120), -5.0))
        kernel, stride = config.kernels[0], config.strides[0]
        last = [*[0] * (columns - kernel - 1), 1]
        assert room[1, 3].tolist() == [*[-2.0] * kernel, *last]
        layout.fill(room, torch.arange(240.0).view(2, 120) / 200)
        for row in range(count):
            pixels = (torch.arange(row * stride, row * stride + kernel) / 200).tolist()
            assert room[0, row].tolist() == pytest.approx([*pixels, *last])


def test_operations_are_those_of_the_layers(make_network: Callable[..., Network]) -> None:
    network = make_network(0, DEEP)
    units = [DEEP.filters[-1] * DEEP.lengths()[-1], *DEEP.dense, 1]
    products = sum(a * b for a, b in pairwise(units))
    for length, kernel, (before, after) in zip(DEEP.lengths(), DEEP.kernels, pairwise((1, *DEEP.filters)), strict=True):
        products += length * kernel * before * after
    assert InferenceMember(network, "float32", "cpu").operations == 2 * products
