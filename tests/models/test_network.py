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
from twinlines.models.vocabulary import ARMS, HEADS

SHORT = NetworkConfig((200, 220))


def spectra(config: NetworkConfig, count: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {arm: 1.0 + 0.3 * torch.randn(count, config.pixels_of(arm), generator=generator) for arm in ARMS}


def test_the_default_judges_both_arms_by_three_heads() -> None:
    network = Network(NetworkConfig((3347, 3509))).eval()
    with torch.no_grad():
        logits = network({"B": torch.ones(2, 3347), "R": torch.ones(2, 3509)})
    assert tuple(logits) == HEADS
    assert {tuple(values.shape) for values in logits.values()} == {(2, 3)}


def test_an_arm_is_judged_alone_and_both_only_together(make_network: Callable[..., Network]) -> None:
    network = make_network()
    flux = spectra(network.config)
    with torch.no_grad():
        both = network(flux)
        for arm in ARMS:
            alone = network({arm: flux[arm]})
            assert list(alone) == [arm]
            torch.testing.assert_close(alone[arm], both[arm], rtol=1e-6, atol=1e-6)
        # The verdict of both depends on both.
        for arm in ARMS:
            changed = network({**flux, arm: flux[arm].flip(0)})["J"]
            assert float((changed - both["J"]).abs().max()) > 0.01
        assert network({}) == {}


@settings(max_examples=30, deadline=None)
@given(
    pixels=st.tuples(st.integers(60, 200), st.integers(60, 200)),
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=3),
    dense=st.lists(st.integers(1, 5), max_size=2),
    features=st.integers(1, 5),
    head=st.lists(st.integers(1, 5), max_size=2),
    joint=st.lists(st.integers(1, 5), max_size=2),
    penalties=st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
)
def test_lengths_are_those_of_the_layers(
    pixels: tuple[int, int],
    sizes: list[tuple[int, int, int]],
    dense: list[int],
    features: int,
    head: list[int],
    joint: list[int],
    penalties: list[int],
) -> None:
    filters, kernels, strides = (tuple(column) for column in zip(*sizes, strict=True))
    units = tuple(dense), features, tuple(head), tuple(joint)
    config = NetworkConfig(pixels, tuple(penalties), filters, kernels, strides, *units, dropout=0.1)
    network = Network(config).eval()
    with torch.no_grad():
        for arm in ARMS:
            x = torch.ones(3, 1, config.pixels_of(arm))
            for layer, length in zip(network.trunk(arm).convolutions, config.lengths(arm), strict=True):
                x = layer(x)
                assert x.shape[2] == length
            assert network.trunk(arm)(x.new_ones(3, config.pixels_of(arm))).shape == (3, features)
        logits = network(spectra(config, 3))
    assert {name: tuple(values.shape) for name, values in logits.items()} == dict.fromkeys(HEADS, (3, len(penalties)))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        NetworkConfig((100, 100), filters=(4,), kernels=(3, 3)).lengths("B")
    with pytest.raises(ValueError, match="10 pixels are too few"):
        Network(NetworkConfig((300, 10)))


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_run_in_the_trainer_and_in_the_ensemble(name: str, make_network: Callable[..., Network]) -> None:
    config = NetworkConfig((300, 310), **PRESETS[name])  # type: ignore[arg-type]
    assert kernels.fits(config)
    network = make_network(0, config)
    flux = spectra(config)
    with torch.no_grad():
        expected = network(flux)
        found = InferenceMember(network, "float32", "cpu")({arm: each - 1.0 for arm, each in flux.items()})
    assert found.keys() == expected.keys()
    for head, logits in expected.items():
        torch.testing.assert_close(found[head], logits, rtol=1e-5, atol=1e-4)
        assert float(logits.std(dim=0).min()) > 0.004  # far more than the tolerance


def test_the_activation_is_equation_5() -> None:
    activation = Network(SHORT).trunk("B").activation
    assert activation(torch.tensor(-2.0)) == pytest.approx(-0.02)
    assert activation(torch.tensor(3.0)) == 3.0


@pytest.mark.parametrize("arm", ARMS)
def test_extremes_are_clipped_and_nan_stays_nan(arm: str) -> None:
    network = Network(SHORT).eval()
    flux = {each: torch.ones(4, SHORT.pixels_of(each)) for each in ARMS}
    flux[arm][0, 50], flux[arm][1, 50], flux[arm][2, 50] = 3.0, 1e6, torch.nan
    with torch.no_grad():
        logits = {head: values.numpy() for head, values in network(flux).items()}
    for head in (arm, "J"):
        np.testing.assert_array_equal(logits[head][0], logits[head][1])
        np.testing.assert_array_equal(np.isnan(logits[head]).all(axis=1), [False, False, True, False])
    (other,) = set(ARMS) - {arm}
    assert np.isfinite(logits[other]).all()


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SHORT.dropout = 0.5  # type: ignore[misc]
