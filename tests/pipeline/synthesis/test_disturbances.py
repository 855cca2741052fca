"""What disturbs the spectra of any pair, and the frame in which all of them are at rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from twinlines.pipeline.arms import ARMS, BLUE, RED, STEP_KMS, doppler_factor, pixel_shift
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import DISTURBANCES as NAMES
from twinlines.pipeline.spectra.broadening import LARGEST_GAIN, broaden_and_shift
from twinlines.pipeline.spectra.lines import H_ALPHA
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.synthesis import population, spectra
from twinlines.pipeline.synthesis.beyond_table1 import DISTURBANCES, FIELD, TABLE1, Extras, Field
from twinlines.pipeline.synthesis.emission import NEBULAR, SKY_LINES, Accretion, Lines, Nebula, Sky, add_lines
from twinlines.pipeline.synthesis.extra import ExtrasError, uniform
from twinlines.pipeline.synthesis.foreign_light import Dilution, Unresolved, dilute
from twinlines.pipeline.synthesis.instrument import PROFILE, Resolution, Stretch, stretch
from twinlines.pipeline.synthesis.population import Population
from twinlines.pipeline.synthesis.priors import Constant, LogUniform, Uniform
from twinlines.pipeline.synthesis.spectra import Scene

SERIAL = np.arange(4000)


@pytest.fixture(scope="module")
def kept() -> Population:
    """Field stars: slow rotators mostly."""
    source = Extras(field=Field(0.5)).sources(5, population.TABLE1, ())[FIELD]
    return source.realise(np.arange(400), Tracks.load(), Library.load()).kept_pairs()


def _with(fraction: float, *names: str) -> Extras:
    standard = Extras()
    return replace(standard, **{name: replace(getattr(standard, name), fraction=fraction) for name in names})


def _made(pairs: Population, extras: Extras, frame: str = "drawn") -> dict[str, np.ndarray]:
    return spectra.pairs(Library.load(), pairs, Scene(1, TABLE1, extras, frame))


def _clean(pairs: Population) -> Population:
    return replace(pairs, draws=replace(pairs.draws, snr=np.full(len(pairs.draws.number), 1e5)))


def test_names_are_the_stores() -> None:
    assert tuple(DISTURBANCES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_chosen_is_disturbed_and_nothing_else(kept: Population, name: str) -> None:
    part = kept.take(slice(0, 64))
    plain, made = _made(part, Extras()), _made(part, _with(0.5, name))
    there = made["disturbed"] > 0
    assert set(made["disturbed"].tolist()) == {0, 1 << NAMES.index(name)}
    assert 0.3 < there.mean() < 0.7
    np.testing.assert_array_equal(made["label"], plain["label"])
    changed = (made["flux_R"] != plain["flux_R"]).any(axis=(1, 2))
    # A further star's light is computed for all, in one product: the last bits of the others may differ.
    if name != "unresolved":
        np.testing.assert_array_equal(changed[~there], False)
    assert np.abs(made["flux_R"] - plain["flux_R"])[~there].max(initial=0.0) <= spectra.FLUX_STEP
    # A defective spectrum may happen to have no defect.
    assert changed[there].mean() > 0.8
    blue = (made["flux_B"] != plain["flux_B"]).any(axis=(1, 2))
    assert blue[there].any() == (name not in ("activity", "nebula", "sky"))


@pytest.mark.parametrize("frame", spectra.FRAMES)
def test_a_disturbed_pair_does_not_depend_on_its_block(kept: Population, frame: str) -> None:
    everything = _with(0.5, *NAMES)
    whole = _made(kept.take(slice(0, 48)), everything, frame)
    part = _made(kept.take(slice(29, 41)), everything, frame)
    for name, values in part.items():
        np.testing.assert_array_equal(values, whole[name][29:41], err_msg=name)
    assert np.isfinite(whole["flux_B"]).all()
    assert np.isfinite(whole["flux_R"]).all()


def test_every_population_is_at_rest_where_it_was_measured(kept: Population) -> None:
    library = Library.load()
    part = kept.take(slice(0, 32))
    moving = replace(part.draws, velocity1=np.full(32, 50.0), snr=np.full(32, 80.0), vsini1=np.full(32, 8.0))
    made = _made(replace(part, draws=moving), Extras(), "measured")
    still = replace(moving, velocity1=np.zeros(32), snr=np.full(32, 1e6))
    for name, arm in ARMS.items():
        frame = made[f"frame_{name}"][:, 0]
        found = np.isfinite(frame)
        assert found.mean() > 0.9
        # Hot and metal-poor stars are measured worse, and templates are not the stars.
        assert np.median(np.abs(frame[found] - 50.0)) < 1.0
        expected = spectra.pair_spectra(arm, library, replace(part, draws=still)).flux[:, 0]
        residual = np.std(made[f"flux_{name}"][found, 0] - expected[found], axis=1)
        assert np.median(residual) < 1.5 / 80.0
    lost = np.isnan(made["frame_B"])
    drawn = _made(replace(part, draws=moving), Extras(), "drawn")
    assert np.isnan(drawn["frame_B"]).all()
    assert not np.array_equal(drawn["flux_B"][~lost], made["flux_B"][~lost])


def test_field_stars_are_measured_in_either_frame(kept: Population) -> None:
    part = kept.take(slice(0, 8))
    one, other = (spectra.pairs(Library.load(), part, Scene(1, FIELD, frame=frame)) for frame in spectra.FRAMES)
    for name in ("flux_B", "flux_R", "frame_B"):
        np.testing.assert_array_equal(one[name], other[name])


def test_each_arm_has_its_own_snr(kept: Population) -> None:
    part = kept.take(slice(0, 64))
    draws = replace(part.draws, snr=np.full(64, 20.0), red_snr=np.full(64, 2.0))
    made = _made(replace(part, draws=draws), Extras())
    assert set(made["snr_B"].tolist()) == {20.0}
    assert set(made["snr_R"].tolist()) == {40.0}
    clean = _made(_clean(part), Extras())
    for name, snr in (("B", 20.0), ("R", 40.0)):
        assert np.std(made[f"flux_{name}"] - clean[f"flux_{name}"]) == pytest.approx(1.0 / snr, rel=0.1)


def test_a_further_star_dilutes_by_its_own_lines(kept: Population) -> None:
    part = _clean(kept.take(slice(0, 32)))
    extras = Extras(unresolved=Unresolved(1.0, light=Constant(0.3), vsini=Constant(5.0)))
    further = extras.unresolved.stars(Library.load(), part.labels(1), part.draws.number, 1)
    assert (Library.load().outside(further.labels) == 0).all()
    np.testing.assert_array_equal(further.labels[:, 2:], part.labels(1)[:, 2:])
    there = further.ratio > 0
    assert there.mean() > 0.7
    np.testing.assert_allclose(further.ratio[there], 0.3 / 0.7)
    made, plain = _made(part, extras), _made(part, Extras())
    np.testing.assert_array_equal(made["label"], [[0, 1]] * 32)
    primary, _ = spectra.stars_of(part)
    star = spectra.component(BLUE, Library.load(), primary)
    other = spectra.component(
        BLUE, Library.load(), spectra.Stars(further.labels, np.ones(32), further.vsini, primary.velocity)
    )
    together = star / star.mean(dim=1, keepdim=True) * 0.7 + other / other.mean(dim=1, keepdim=True) * 0.3
    expected, _ = spectra.normalise(torch.from_numpy(BLUE.wavelength), together.double())
    np.testing.assert_allclose(made["flux_B"][there, 0], expected[torch.from_numpy(there)], atol=1e-3)
    assert np.abs(made["flux_B"] - plain["flux_B"])[there].max() > 0.05


def test_amounts_have_the_asked_distributions() -> None:
    dilution = Dilution(0.5)
    blue, red = (dilution.amounts(name, SERIAL, 1).reshape(-1, 2) for name in ARMS)
    there = (blue != 0).any(axis=1)
    assert there.mean() == pytest.approx(0.5, abs=0.03)
    for values in (blue[there], red[there]):
        assert values.mean() == pytest.approx(0.275, abs=0.02)
        assert (values.min(), values.max()) == pytest.approx((-0.05, 0.6), abs=0.01)
    # Half of the spectra have the same in both arms, and no spectrum has its partner's.
    assert (blue[there] == red[there]).mean() == pytest.approx(0.5, abs=0.03)
    assert (blue[there][:, 0] != blue[there][:, 1]).all()
    accretion = Accretion(1.0)
    ratio = accretion.veil("B", SERIAL, 1) / accretion.veil("R", SERIAL, 1)
    assert (ratio.min(), ratio.max()) == pytest.approx((1.0, 1.5), abs=0.01)
    errors = Stretch(1.0).amplitudes("B", SERIAL, 1)
    assert (errors.min(), errors.max()) == pytest.approx((-6.0, 6.0), abs=0.02)
    first, second = uniform(SERIAL, DISTURBANCES["sky"], 1, 2), uniform(SERIAL, DISTURBANCES["sky"], 1, 5)
    np.testing.assert_array_equal(second[:, :2], first)


def test_dilution_is_in_units_of_the_continuum() -> None:
    wavelength = np.linspace(-1.0, 1.0, 1000)
    line = 1.0 - 0.999 * np.exp(-0.5 * (wavelength / 0.02) ** 2)
    light = torch.from_numpy(np.stack([7.0 * line] * 3).astype(np.float32))
    dilute(light, np.array([0.5, 0.0, -0.05]))
    np.testing.assert_allclose(light[0].numpy(), 7.0 * (line + 0.5), rtol=1e-5)
    np.testing.assert_allclose(light[1].numpy(), 7.0 * line, rtol=1e-6)
    np.testing.assert_allclose(light[2].numpy(), 7.0 * np.maximum(line - 0.05, 0.005), rtol=1e-4)


def test_a_stretched_scale_errs_at_the_ends_and_follows_the_detector() -> None:
    pixel = np.arange(RED.n_pixels)
    sigma = PROFILE / STEP_KMS
    places = np.array([300.0, (RED.n_pixels - 1) / 2, RED.n_pixels - 301.0])
    light = np.exp(-0.5 * ((pixel[None, :] - places[:, None]) / sigma) ** 2).sum(axis=0).astype(np.float32)
    spectra_ = torch.from_numpy(np.stack([light] * 3))
    stretch(spectra_, np.array([0.0, 6.0, 6.0]), np.array([0.0, 0.0, 200.0]))
    np.testing.assert_array_equal(spectra_[0].numpy(), light)
    for row, frame in ((1, 0.0), (2, 200.0)):
        for place in places:
            near = slice(int(place) - 40, int(place) + 41)
            moved = (spectra_[row, near].numpy() * pixel[near]).sum() / spectra_[row, near].numpy().sum() - place
            half = (RED.n_pixels - 1) / 2
            expected = 6.0 / STEP_KMS * (place + pixel_shift(frame) - half) / half
            assert moved == pytest.approx(expected, abs=0.01)


def test_resolution_adds_a_gaussian_or_divides_by_one() -> None:
    factor = Resolution(1.0, factor=Constant(0.85)).broadening("B", SERIAL[:3], 1)
    np.testing.assert_allclose(np.hypot(PROFILE, factor), PROFILE / 0.85)
    sharper = Resolution(1.0, factor=Constant(1.15)).broadening("R", SERIAL[:3], 1)
    np.testing.assert_allclose(PROFILE**2 - sharper**2, (PROFILE / 1.15) ** 2)
    assert (sharper < 0).all()
    blue, red = (Resolution(1.0).broadening(name, SERIAL, 1) for name in ARMS)
    assert (blue != red).mean() > 0.99
    with pytest.raises(ExtrasError, match="factor 0 was drawn; give a prior above 0"):
        Resolution(1.0, factor=Constant(0.0)).broadening("B", SERIAL[:1], 1)

    flux = Library.load().flux("B", np.array([[5772.0, 4.44, 0.0, 0.0]])).repeat(3, axis=0)
    zero = torch.zeros(3)
    more = torch.tensor([0.0, 10.0, -8.4], dtype=torch.float64)
    each = broaden_and_shift(torch.from_numpy(flux), zero, zero, broadening=more, pixels=BLUE.on_library)
    none = broaden_and_shift(torch.from_numpy(flux), zero, zero, pixels=BLUE.on_library)
    one = broaden_and_shift(torch.from_numpy(flux), zero, zero, broadening=10.0, pixels=BLUE.on_library)
    assert torch.equal(each[0], none[0])
    assert torch.equal(each[1], one[1])
    depth = [float(1.0 - (row / row.median()).min()) for row in each]
    assert depth[1] < depth[0] < depth[2] < LARGEST_GAIN * depth[0]
    # Nothing rings: where the spectrum is smooth, the sharpened one is too.
    assert float((each[2] / none[2] - 1.0).abs().max()) < 0.1


def test_lines_of_nebulae_and_the_sky() -> None:
    nebula = Nebula(1.0, strength=LogUniform(0.999, 1.001)).lines(SERIAL, 1)
    np.testing.assert_allclose(nebula.height / nebula.height[:, :1], [[1.0, 0.1, 0.3, 0.15, 0.12]] * 4000, rtol=2e-3)
    np.testing.assert_allclose(nebula.width, np.hypot(PROFILE, 25.0))
    assert nebula.velocity.std() == pytest.approx(30.0, rel=0.05)
    sky = Sky(0.5).lines(SERIAL, 1)
    there = sky.height.any(axis=1)
    np.testing.assert_array_equal(there[0::2], there[1::2])
    assert there.mean() == pytest.approx(0.5, abs=0.03)
    size = np.abs(sky.height[there])
    assert (size.min(), size.max()) == pytest.approx((0.05, 0.5), rel=0.02)
    assert (sky.height[there] > 0).mean() == pytest.approx(0.5, abs=0.03)

    for rest in (NEBULAR, SKY_LINES):
        flux = np.full((1, RED.n_pixels), 2.0, dtype=np.float32)
        height = np.linspace(0.5, 0.1, len(rest))
        add_lines(flux, rest, Lines(np.array([40.0]), height[None], np.array([20.0])))
        expected = np.ones(RED.n_pixels)
        for wavelength, one in zip(rest, height, strict=True):
            velocity = (RED.wavelength / (wavelength * doppler_factor(40.0)) - 1.0) * 299_792.458
            expected += one * np.exp(-0.5 * (velocity / 20.0) ** 2)
        np.testing.assert_allclose(flux[0], 2.0 * expected, rtol=2e-3)


def test_sky_and_nebula_stand_where_the_frame_puts_them(kept: Population) -> None:
    part = _clean(kept.take(slice(0, 32)))
    part = replace(part, draws=replace(part.draws, velocity1=np.full(32, 80.0)))
    still = Sky(1.0, amplitude=Uniform(0.3, 0.31), velocity=Constant(10.0))
    for extras, velocity in (
        (Extras(sky=still), lambda frame: 10.0 - frame),
        (Extras(nebula=Nebula(1.0, height=Constant(3.0), velocity=Constant(20.0))), lambda frame: 100.0 - frame),
    ):
        made, plain = _made(part, extras, "measured"), _made(part, Extras(), "measured")
        rest = SKY_LINES[1] if extras.sky.fraction else H_ALPHA
        same = np.abs(made["frame_R"] - plain["frame_R"])[:, 0] < 3.0
        assert same.sum() > 5  # strong lines move what is measured
        for row in np.flatnonzero(same):
            centre = np.log10(rest * doppler_factor(velocity(made["frame_R"][row, 0])) / RED.start) / 7.56e-6
            near = np.arange(int(centre) - 12, int(centre) + 14)
            change = np.abs(made["flux_R"][row, 0] - plain["flux_R"][row, 0])[near]
            assert abs((change * near).sum() / change.sum() - centre) < 1.5


def test_impossible_disturbances_are_refused() -> None:
    with pytest.raises(ExtrasError, match=r"dilution: fraction is 1.5; give a number from 0 to 1"):
        Dilution(1.5)
    with pytest.raises(ExtrasError, match="unresolved: light 1 was drawn; give a prior from 0 to below 1"):
        Unresolved(1.0, light=Constant(1.0)).stars(Library.load(), np.array([[5772.0, 4.4, 0.0, 0.0]]), SERIAL[:1], 1)
    for kind in (Accretion, Nebula, Resolution, Sky, Stretch):
        with pytest.raises(ExtrasError, match=f"{kind.__name__.lower()}: fraction is -1"):
            kind(-1)
