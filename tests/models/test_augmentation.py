"""How spectra are varied while training: what each variation does, and that what is off does nothing."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from twinlines.models.augmentation import Augmentation, AugmentationError
from twinlines.models.vocabulary import ARMS

OFF = Augmentation(extra_noise=0.0, continuum_wiggle=0.0)
SNR = 10.0


def flat(level: float = 1.0, count: int = 400) -> dict[str, Tensor]:
    return {"B": torch.full((count, 2, 100), level), "R": torch.full((count, 2, 130), level)}


def vary(augmentation: Augmentation, flux: dict[str, Tensor], snr: float = SNR, seed: int = 0) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return augmentation(flux, {arm: torch.full((len(each),), snr) for arm, each in flux.items()})


def noisy(snr: float = SNR, level: float = 0.5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    flux = flat(level)
    return {arm: each + torch.randn(each.shape, generator=generator) / snr for arm, each in flux.items()}


def test_off_is_identity() -> None:
    flux = noisy()
    found = vary(OFF, flux)
    for arm in ARMS:
        torch.testing.assert_close(found[arm], flux[arm], rtol=0.0, atol=2.4e-7)  # flux - 1 + 1
    # Sizes of what is off do nothing.
    found = vary(replace(OFF, strength=0.9, most_light=3.0, wiggle_terms=9), flux)
    for arm in ARMS:
        torch.testing.assert_close(found[arm], flux[arm], rtol=0.0, atol=2.4e-7)


def test_what_is_given_stays_as_it_is() -> None:
    everything = Augmentation(displaced=0.5, rippled=0.5, diluted=0.5, restrengthened=0.5, relined=0.5)
    flux = noisy()
    copies = {arm: each.clone() for arm, each in flux.items()}
    vary(everything, flux)
    assert all(torch.equal(flux[arm], copies[arm]) for arm in ARMS)


def test_noise_is_added_in_the_spectrum_s_own_units() -> None:
    found = vary(replace(OFF, extra_noise=1.0), flat())
    for arm in ARMS:
        added = found[arm] - 1
        # A fraction drawn evenly from 0 to 1 has mean square 1/3.
        assert float(added.std()) == pytest.approx(1 / SNR / math.sqrt(3), rel=0.05)
        assert float(added.std(dim=2).max()) < 1.4 / SNR
    quiet = vary(replace(OFF, extra_noise=1.0), flat(), snr=1000.0)
    assert float((quiet["B"] - 1).std()) == pytest.approx(1e-3 / math.sqrt(3), rel=0.05)


def test_the_continuum_wiggles_slowly() -> None:
    found = vary(replace(OFF, continuum_wiggle=0.02), flat())
    for arm in ARMS:
        added = found[arm] - 1
        assert float(added.std()) == pytest.approx(0.02, rel=0.1)
        assert float(added.diff(dim=2).abs().max()) < 0.02
    # It multiplies: where there is no light, there is no change.
    dark = vary(replace(OFF, continuum_wiggle=0.02), flat(0.0))
    assert float(dark["B"].abs().max()) < 1e-6


def depths(found: dict[str, Tensor], level: float = 0.5) -> dict[str, Tensor]:
    """What remains of the lines' depth, by arm, (pair, 2)."""
    return {arm: (each.mean(dim=2) - 1.0) / (level - 1.0) for arm, each in found.items()}


def test_diluted_lines_are_shallower_in_both_arms_alike() -> None:
    diluted = replace(OFF, diluted=1.0, least_light=0.5, most_light=0.6)
    blue, red = depths(vary(diluted, flat(0.5), snr=1e6)).values()
    light = {"B": 1.0 / blue - 1.0, "R": 1.0 / red - 1.0}
    for each in light.values():
        # Light from 0.5 to 0.6, times 1 +- 0.1 of each arm's own.
        assert float(each.mean()) == pytest.approx(0.55, abs=0.01)
        assert float(each.std()) == pytest.approx(0.063, abs=0.01)
    wide = replace(diluted, least_light=0.0)
    light = {arm: 1.0 / each - 1.0 for arm, each in depths(vary(wide, flat(0.5), snr=1e6)).items()}
    both = torch.stack([light["B"].flatten(), light["R"].flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.95
    # Each spectrum of a pair has its own.
    assert abs(float(torch.corrcoef(light["B"].T)[0, 1])) < 0.2


def test_light_that_is_taken_away_makes_lines_deeper() -> None:
    taken = replace(OFF, diluted=1.0, least_light=-0.05, most_light=-0.05)
    for each in depths(vary(taken, flat(0.5), snr=1e6)).values():
        assert float(each.mean()) == pytest.approx(1 / 0.95, rel=0.01)


def test_a_diluted_spectrum_has_the_noise_that_it_states() -> None:
    """The sum of both lights is what has the S/N: what dilution takes from the noise is given back."""
    found = vary(replace(OFF, diluted=1.0, least_light=0.6, most_light=0.6), noisy())
    for each in found.values():
        residual = each - each.mean(dim=2, keepdim=True)
        assert float(residual.std()) == pytest.approx(1 / SNR, rel=0.02)
    # With extra noise, both are there.
    found = vary(replace(OFF, diluted=1.0, least_light=0.6, most_light=0.6, extra_noise=1.0), noisy())
    residual = found["R"] - found["R"].mean(dim=2, keepdim=True)
    assert float(residual.std()) == pytest.approx(math.sqrt(4 / 3) / SNR, rel=0.03)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["rippled", "diluted", "restrengthened", "relined"])
def test_a_fraction_is_one_of_the_spectra(name: str, fraction: float) -> None:
    only = replace(OFF, **{name: fraction}, least_light=0.3)
    found = vary(only, flat(0.5), snr=1e9)
    changed = {arm: (each - 0.5).abs().amax(dim=2) > 1e-5 for arm, each in found.items()}
    for each in changed.values():
        assert float(each.float().mean()) == pytest.approx(fraction, abs=0.06)
        assert float((each[:, 0] & each[:, 1]).float().mean()) == pytest.approx(fraction**2, abs=0.08)
    if name == "diluted":
        assert torch.equal(changed["B"], changed["R"])


@pytest.mark.parametrize(("name", "pixels"), [("restrengthened", "band_pixels"), ("relined", "line_pixels")])
def test_lines_are_strengthened_by_bands_and_by_lines(name: str, pixels: str) -> None:
    changed = replace(OFF, **{name: 1.0, pixels: 25}, strength=0.2)  # type: ignore[arg-type]
    flux = {"B": torch.full((2000, 2, 101), 0.5), "R": torch.ones((2000, 2, 101))}
    found = vary(changed, flux)
    assert torch.equal(found["R"], flux["R"])  # continuum has no lines
    strength = (found["B"] - 1.0) / -0.5 - 1.0
    assert abs(float(strength.mean())) < 0.01
    # At a knot, a deviation of 0.2 times a fraction drawn evenly from 0 to 1.
    assert float(strength[:, :, 0].std()) == pytest.approx(0.2 / math.sqrt(3), rel=0.06)
    assert float(strength.abs().max()) <= 0.8
    # Slow: no faster than from knot to knot.
    assert float(strength.diff(dim=2).abs().mean()) < 0.02
    assert float(torch.corrcoef(strength[:, 0, [0, -1]].T)[0, 1]) == pytest.approx(0.0, abs=0.1)


def test_displaced_spectra_are_moved_by_whole_pixels_each_arm_by_itself() -> None:
    ramps = {"B": torch.arange(100.0).expand(400, 2, 100) / 1e3, "R": torch.arange(130.0).expand(400, 2, 130) / 1e3}
    found = vary(replace(OFF, displaced=1.0, most_pixels=7), ramps)
    shifts = {arm: ((each[:, :, 50] - 0.050) * 1e3).round() for arm, each in found.items()}
    for arm, shift in shifts.items():
        assert set(shift.unique().tolist()) == set(range(-7, 8))
        last = ramps[arm].shape[2] - 1
        pixel = (torch.arange(last + 1.0) + shift[..., None]).clamp(0, last)  # ends go on with their last value
        torch.testing.assert_close(found[arm], pixel / 1e3, rtol=0.0, atol=1e-6)
    assert float((shifts["B"] == shifts["R"]).float().mean()) < 0.15
    near = vary(replace(OFF, jittered=1.0, jitter_pixels=2), ramps)["B"]
    assert set(((near[:, :, 50] - 0.050) * 1e3).round().unique().tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    some = vary(replace(OFF, displaced=0.3), ramps)["B"]
    moved = (some - ramps["B"]).abs().amax(dim=2) > 1e-5
    assert float(moved.float().mean()) == pytest.approx(0.3 * 50 / 51, abs=0.06)


def test_a_ripple_is_a_wave_and_a_step_of_the_continuum() -> None:
    rippled = vary(replace(OFF, rippled=1.0, most_ripple=0.05, ripple_pixels=20), flat(count=1000))["B"] - 1.0
    assert 0.05 < float(rippled.abs().max()) <= 0.1
    lines = vary(replace(OFF, rippled=1.0, most_ripple=0.05, ripple_pixels=20), flat(0.5, count=1000))["B"]
    torch.testing.assert_close(lines, 0.5 * (1.0 + rippled), rtol=0.0, atol=1e-6)  # light is divided, not added


FRACTIONS = st.floats(0.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(
    augmentation=st.builds(
        Augmentation,
        extra_noise=st.floats(0.0, 3.0),
        continuum_wiggle=st.floats(0.0, 0.2),
        wiggle_terms=st.integers(0, 9),
        displaced=FRACTIONS,
        most_pixels=st.integers(2, 200),
        jittered=FRACTIONS,
        jitter_pixels=st.integers(2, 9),
        rippled=FRACTIONS,
        most_ripple=st.floats(0.0, 0.2),
        ripple_pixels=st.integers(2, 400),
        diluted=FRACTIONS,
        least_light=st.floats(-0.2, 0.5),
        most_light=st.floats(0.5, 3.0),
        restrengthened=FRACTIONS,
        relined=FRACTIONS,
        strength=st.floats(0.0, 1.0),
        band_pixels=st.integers(2, 500),
        line_pixels=st.integers(2, 50),
    ),
    seed=st.integers(0, 2**32),
)
def test_whatever_it_is_made_of_it_leaves_finite_spectra_that_follow_the_seed(
    augmentation: Augmentation, seed: int
) -> None:
    flux = {arm: each[:6] for arm, each in noisy().items()}
    found, again = vary(augmentation, flux, seed=seed), vary(augmentation, flux, seed=seed)
    for arm in ARMS:
        assert found[arm].shape == flux[arm].shape
        assert found[arm].dtype == torch.float32
        assert bool(torch.isfinite(found[arm]).all())
        assert torch.equal(found[arm], again[arm])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"diluted": 1.1}, r"diluted is 1\.1; give a fraction from 0 to 1"),
        ({"restrengthened": -0.1}, "restrengthened is -0.1; give a fraction"),
        ({"relined": math.nan}, "relined is nan; give a fraction"),
        ({"extra_noise": -1.0}, r"extra_noise is -1\.0; give 0 or more"),
        ({"continuum_wiggle": math.inf}, "continuum_wiggle is inf; give 0 or more"),
        ({"strength": -0.2}, "strength is -0.2; give 0 or more"),
        ({"wiggle_terms": -1}, "wiggle_terms is -1; give 0 or more"),
        ({"least_light": -0.5}, r"least_light is -0\.5; give more than -0\.5"),
        ({"least_light": 0.7}, r"most_light is 0\.6; give 0\.7 \(least_light\) or more"),
        ({"most_light": math.nan}, "most_light is nan"),
        ({"most_light": math.inf}, "most_light is inf"),
        ({"displaced": 2.0}, r"displaced is 2\.0; give a fraction from 0 to 1"),
        ({"rippled": -1.0}, r"rippled is -1\.0; give a fraction"),
        ({"most_ripple": -0.1}, r"most_ripple is -0\.1; give 0 or more"),
        ({"jittered": 1.5}, r"jittered is 1\.5; give a fraction"),
        ({"jitter_pixels": 1}, "jitter_pixels is 1; give 2 or more"),
        ({"most_pixels": 1}, "most_pixels is 1; give 2 or more"),
        ({"ripple_pixels": 0}, "ripple_pixels is 0; give 2 or more"),
        ({"band_pixels": 1}, "band_pixels is 1; give 2 or more"),
        ({"line_pixels": 0}, "line_pixels is 0; give 2 or more"),
    ],
)
def test_what_has_no_meaning_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(AugmentationError, match=said):
        Augmentation(**changed)


def test_every_field_is_checked() -> None:
    for item in fields(Augmentation):
        with pytest.raises(AugmentationError, match=item.name):
            Augmentation(**{item.name: -7})  # type: ignore[arg-type]
