"""Velocities with rivals, and velocities without: on the rule itself, and on spectra of which the truth is known."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from tests.pipeline.spectra.test_velocity import K_DWARF, SUNLIKE, expose, library, one_thread, templates
from tests.places import SHARED
from twinlines.pipeline.arms import ARM_NAMES, BLUE, STEP_KMS, ArmName
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import FATAL, Quality
from twinlines.pipeline.spectra import ambiguity, preprocess, velocity
from twinlines.pipeline.spectra.templates import Templates

__all__ = ["library", "one_thread", "templates"]

PIXELS = 1000


def judged(height: float, away: float, *, explained: float = 0.9, snr2: float = 20.0) -> ambiguity.Ambiguity:
    """A peak at shift 0, and a rival of ``height`` times it ``away`` pixels from it."""
    shifts = torch.arange(-100.0, 101.0, 2.0, dtype=torch.float64)
    heights = torch.zeros(1, len(shifts))
    noise = torch.tensor([float(PIXELS)], dtype=torch.float64)
    power = noise * (1.0 + snr2)
    peak = (explained * snr2 * noise).sqrt()
    heights[0, 50] = peak
    heights[0, (shifts - away).abs().argmin()] = height * peak
    return ambiguity.judge(heights, shifts, torch.zeros(1).double(), peak, power, noise, PIXELS)


def test_a_rival_is_as_high_and_far_away() -> None:
    assert judged(1.0, 40.0) == (torch.tensor([True]), torch.tensor([40.0]))
    assert judged(0.998, -60.0) == (torch.tensor([True]), torch.tensor([60.0]))
    for clear in (judged(0.8, 40.0), judged(1.0, 2.0)):
        assert clear == (torch.tensor([False]), torch.tensor([0.0]))


def test_mismatch_makes_rivals() -> None:
    # Of 1000 pixels, mismatch is as alike as that of 60: a peak 0.9 as high is as good where little is explained.
    assert not judged(0.9, 40.0, explained=0.9).ambiguous
    assert judged(0.9, 40.0, explained=0.4).ambiguous


def test_a_template_that_explains_little_is_ambiguous_without_a_rival() -> None:
    poor = judged(0.0, 40.0, explained=0.14, snr2=1e4)
    assert poor.ambiguous
    assert poor.distance.item() * STEP_KMS >= ambiguity.APART * 0.999


@pytest.mark.parametrize("name", ARM_NAMES)
@pytest.mark.parametrize("labels", [SUNLIKE, K_DWARF, (6500.0, 4.2, -0.5, 0.0), (4600.0, 2.5, 0.0, 0.0)])
def test_good_spectra_have_no_ambiguous_velocity(
    library: Library, templates: Templates, name: ArmName, labels: tuple[float, ...]
) -> None:
    true = np.linspace(-200.0, 200.0, 64)
    for snr in (12.0, 50.0):
        found = expose(library, name, labels, true, snr=snr, seed=31).measure(name, templates)
        assert (found.quality == Quality.GOOD).all()


@pytest.mark.parametrize("name", ARM_NAMES)
def test_what_is_far_off_is_flagged_and_its_error_says_so(
    library: Library, templates: Templates, name: ArmName
) -> None:
    true = np.linspace(-100.0, 100.0, 64)
    wrong = 0
    for labels, vsini, snr in (
        ((6600.0, 4.2, 0.0, 0.0), 200.0, 10.0),
        ((6600.0, 4.2, 0.0, 0.0), 120.0, 10.0),
        ((9500.0, 4.0, 0.0, 0.0), 200.0, 15.0),
    ):
        found = expose(library, name, labels, true, snr=snr, seed=32, vsini=vsini).measure(name, templates)
        known = np.isfinite(found.velocity)
        off = np.abs(found.velocity - true)[known]
        flagged = (found.quality[known] & Quality.AMBIGUOUS_VELOCITY) > 0
        wrong += int((off > 15.0).sum())
        assert flagged[off > 15.0].all()
        assert (found.error[known][flagged] >= ambiguity.APART * 0.99).all()
        assert (off[flagged] < 1.5 * found.error[known][flagged]).mean() > 0.9
    assert wrong  # else nothing was tested


def test_equal_twins_far_apart_are_rivals(library: Library, templates: Templates) -> None:
    true = np.linspace(-100.0, 100.0, 32)
    twins = expose(library, "B", SUNLIKE, true, snr=50.0, seed=33, second=(150.0, 1.0)).measure("B", templates)
    assert ((twins.quality & Quality.AMBIGUOUS_VELOCITY) > 0).mean() > 0.8
    flagged = (twins.quality & Quality.AMBIGUOUS_VELOCITY) > 0
    np.testing.assert_allclose(twins.error[flagged], 150.0, atol=20.0)


def test_an_ambiguous_velocity_is_not_fatal() -> None:
    assert not FATAL & Quality.AMBIGUOUS_VELOCITY


@pytest.mark.skipif(not (SHARED / "realstars").is_dir(), reason="needs the real stars in ../shared")
def test_a_real_hot_star_s_blue_velocity_is_flagged(templates: Templates) -> None:
    """A B2 star, made exposures of by a script that shares nothing with us, gets -167 km/s in the blue."""
    spec = importlib.util.spec_from_file_location("realstars_make", SHARED / "realstars" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    stars, rng = make.Stars(SHARED / "realstars" / "stars.npz"), np.random.default_rng(1)
    spectrograph = make.Spectrograph(rng)
    for star, hot in (("gamPeg", True), ("Sun", False)):
        seen = [make.expose(rng, spectrograph, stars, [(star, 30.0, 1.0, 1.0)], 60.0, "none", 0.0) for _ in range(8)]
        flux, ivar, loglam = (np.stack([one["B"][k] for one in seen]) for k in range(3))
        observed = preprocess.observe(BLUE, flux, ivar, loglam, np.zeros(flux.shape, np.uint8))
        found = velocity.measure(
            "B", observed.wavelength, observed.normalised, observed.normalised_sigma, templates, observed.bad
        )
        known = np.isfinite(found.velocity)
        assert known.any()
        assert ((np.abs(found.velocity[known] - 30.0) > 15.0) == hot).all()
        assert (((found.quality[known] & Quality.AMBIGUOUS_VELOCITY) > 0) == hot).all()
