import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.models import kernels
from twinlines.models.inference_member import InferenceMember
from twinlines.models.network import PRESETS, Network, NetworkConfig


@pytest.mark.parametrize("pixels", [3347, 3509])
def test_the_default_takes_both_arms(pixels: int) -> None:
    network = Network(NetworkConfig(pixels)).eval()
    with torch.no_grad():
        logits = network(torch.ones(2, pixels))
        probability = network.probability(torch.ones(2, pixels))
    assert logits.shape == (2,)
    torch.testing.assert_close(probability, torch.sigmoid(logits))


@settings(max_examples=30, deadline=None)
@given(
    pixels=st.integers(60, 200),
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=3),
    dense=st.lists(st.integers(1, 5), max_size=2),
)
def test_lengths_are_those_of_the_layers(pixels: int, sizes: list[tuple[int, int, int]], dense: list[int]) -> None:
    filters, kernels, strides = (tuple(column) for column in zip(*sizes, strict=True))
    config = NetworkConfig(pixels, filters, kernels, strides, tuple(dense))
    network = Network(config).eval()
    x = torch.ones(3, 1, pixels)
    with torch.no_grad():
        for layer, length in zip(network.convolutions, config.lengths(), strict=True):
            x = layer(x)
            assert x.shape[2] == length
        assert network(torch.ones(3, pixels)).shape == (3,)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        NetworkConfig(100, filters=(4,), kernels=(3, 3)).lengths()
    with pytest.raises(ValueError, match="10 pixels are too few"):
        Network(NetworkConfig(10))


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_run_in_the_trainer_and_in_the_ensemble(name: str, make_network: Callable[..., Network]) -> None:
    config = NetworkConfig(300, **PRESETS[name])  # type: ignore[arg-type]
    assert kernels.fits(config)
    network = make_network(0, config)
    flux = 1.0 + 0.3 * torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(flux)
        torch.testing.assert_close(
            InferenceMember(network, "float32", "cpu")(flux - 1.0), expected, rtol=1e-5, atol=1e-4
        )
    assert float(expected.std()) > 0.004  # far more than the tolerance


def test_the_activation_is_equation_5() -> None:
    network = Network(NetworkConfig(200))
    assert network.activation(torch.tensor(-2.0)) == pytest.approx(-0.02)
    assert network.activation(torch.tensor(3.0)) == 3.0


def test_extremes_are_clipped_and_nan_stays_nan() -> None:
    network = Network(NetworkConfig(200)).eval()
    flux = torch.ones(4, 200)
    flux[0, 50], flux[1, 50], flux[2, 50] = 3.0, 1e6, torch.nan
    with torch.no_grad():
        logits = network(flux).numpy()
    assert logits[0] == logits[1]
    np.testing.assert_array_equal(np.isnan(logits), [False, False, True, False])


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NetworkConfig(200).dropout = 0.5  # type: ignore[misc]
