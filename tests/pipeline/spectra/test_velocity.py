from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import fitsio
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from tests.places import SHARED
from twinlines.pipeline.arms import ARM_NAMES, ArmName, arm, doppler_factor, pixel_shift, velocity_of_shift
from twinlines.pipeline.library.library import Library, OutsideLibraryError
from twinlines.pipeline.schema import Quality
from twinlines.pipeline.spectra import continuum, correlation, preprocess, velocity
from twinlines.pipeline.spectra.broadening import broaden_and_shift
from twinlines.pipeline.spectra.templates import STRIDE, ArmTemplates, Templates, VelocityConfig

SUNLIKE = (5800.0, 4.4, 0.0, 0.0)
K_DWARF = (4700.0, 4.6, 0.1, 0.0)
PIXELS = {"B": (4894.0, 5397.0, 0.124, 0.100), "R": (6270.0, 6850.0, 0.145, 0.116)}
"""First and last wavelength and step there, Angstrom, of real exposures."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load()


@pytest.fixture(scope="module")
def templates(library: Library) -> Templates:
    return Templates.build(library)


@dataclasses.dataclass(frozen=True)
class Spectra:
    wavelength: torch.Tensor
    normalised: torch.Tensor
    sigma: torch.Tensor

    def measure(self, name: ArmName, templates: Templates) -> velocity.Velocity:
        return velocity.measure(name, self.wavelength, self.normalised, self.sigma, templates)

    def __getitem__(self, rows: object) -> Spectra:
        return Spectra(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def native_pixels(name: ArmName) -> NDArray[np.float64]:
    """Wavelengths like those of a real exposure after trimming, Angstrom."""
    first, last, left, right = PIXELS[name]
    distance = np.concatenate([[0.0], np.cumsum(np.linspace(left, right, 4135))])
    return (first + (last - first) * distance / distance[-1])[70:-70]


def expose(
    library: Library,
    name: ArmName,
    labels: tuple[float, ...] | NDArray[np.float64],
    velocities: NDArray[np.float64],
    snr: float,
    seed: int,
    vsini: float = 5.0,
    second: tuple[float, float] | None = None,
) -> Spectra:
    """Photon-noisy normalised spectra on native pixels; ``second`` adds a twin at (velocity offset, light ratio)."""
    which, rng = arm(name), np.random.default_rng(seed)
    rows = len(velocities)
    flux = torch.from_numpy(library.flux(name, np.broadcast_to(labels, (rows, 4)))).double()
    flux = broaden_and_shift(flux / flux.mean(1, keepdim=True), torch.full((rows,), vsini), torch.zeros(rows))
    wavelength = native_pixels(name) + rng.uniform(-0.3, 0.3, (rows, 1))
    low, high = which.library_loglam[[0, -1]]
    values = np.empty_like(wavelength)
    for row, spectrum in enumerate(flux.numpy()):
        spline = CubicSpline(which.library_loglam, spectrum)

        def seen(at: float, row: int = row, spline: CubicSpline = spline) -> NDArray[np.float64]:
            place = np.log10(wavelength[row] / doppler_factor(at))
            place = np.where(place < low, 2 * low - place, place)  # mirrored beyond the library, far from the grid
            return np.asarray(spline(np.where(place > high, 2 * high - place, place)))

        values[row] = seen(velocities[row])
        if second is not None:
            values[row] += second[1] * seen(velocities[row] + second[0])
    sigma = np.sqrt(values * values.mean(1, keepdims=True)) / snr
    x, y = torch.from_numpy(wavelength), torch.from_numpy(values + sigma * rng.standard_normal(values.shape))
    normalised, level = continuum.normalise(x, y)
    return Spectra(x, normalised, torch.from_numpy(sigma) / level)


def on_grid(prepared: ArmTemplates, spectra: Spectra) -> torch.Tensor:
    """An independent interpolation, mean-subtracted."""
    rows = [
        np.interp(prepared.arm.wavelength, x, y)
        for x, y in zip(spectra.wavelength.numpy(), spectra.normalised.numpy(), strict=True)
    ]
    values = torch.from_numpy(np.stack(rows))
    return values - values.mean(1, keepdim=True)


@pytest.mark.parametrize("name", ARM_NAMES)
@pytest.mark.parametrize(("labels", "seed"), [(SUNLIKE, 1), (K_DWARF, 2)], ids=["G", "K"])
def test_velocities_and_errors_of_dwarfs(
    library: Library, templates: Templates, name: ArmName, labels: tuple[float, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    true = rng.uniform(-300.0, 300.0, 192)
    found = expose(library, name, labels, true, snr=50.0, seed=seed).measure(name, templates)
    deviation = found.velocity - true
    assert (found.quality == Quality.GOOD).all()
    assert abs(np.median(deviation)) < 0.5
    assert deviation.std() < 1.5
    assert 0.8 < ((deviation - deviation.mean()) / found.error).std() < 1.2
    assert np.abs(found.teff - labels[0]).max() <= 500.0
    assert (found.ccfmax > 0.9).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARM_NAMES)
@pytest.mark.parametrize("snr", [6.0, 10.0, 50.0])
@pytest.mark.parametrize(
    "labels",
    [SUNLIKE, (5630.0, 4.25, -0.3, 0.1), (4500.0, 4.6, 0.0, 0.0), (5000.0, 4.6, 0.0, 0.0), (6600.0, 4.2, -0.2, 0.1)],
)
def test_velocities_and_errors_down_to_the_lowest_snr(
    library: Library, templates: Templates, name: ArmName, snr: float, labels: tuple[float, ...]
) -> None:
    true = np.random.default_rng(3).uniform(-300.0, 300.0, 384)
    found = expose(library, name, labels, true, snr=snr, seed=4).measure(name, templates)
    deviation = found.velocity - true
    assert abs(np.median(deviation)) < 0.5 + 3.0 * deviation.std() / 384**0.5
    assert 0.8 < ((deviation - deviation.mean()) / found.error).std() < 1.2


@pytest.mark.parametrize("name", ARM_NAMES)
def test_without_noise_nothing_but_the_templates_differences_is_left(
    library: Library, templates: Templates, name: ArmName
) -> None:
    true = np.linspace(-980.0, 980.0, 64)
    found = expose(library, name, (5500.0, 4.5, 0.0, 0.0), true, snr=1e6, seed=0, vsini=0.0).measure(name, templates)
    assert np.abs(found.velocity - true).max() < 0.2
    assert (found.teff == 5500.0).all()
    assert (found.ccfmax > 0.998).all()


@pytest.mark.parametrize("name", ARM_NAMES)
def test_correlation_equals_the_direct_sum(library: Library, templates: Templates, name: ArmName) -> None:
    labels = np.array([[5640.0, 4.2, -0.3, 0.1], [4500.0, 2.5, -0.6, 0.2], [7700.0, 4.0, 0.1, 0.0]])
    spectra = expose(library, name, labels, np.array([-120.0, 35.0, 250.0]), snr=30.0, seed=5)
    every = Templates.build(library, VelocityConfig(components=len(templates.config.templates)))
    prepared = every.arms[name]
    flux = on_grid(prepared, spectra)
    pixels = prepared.arm.n_pixels
    smoothed = correlation.samples(prepared, correlation.transform(prepared, flux.float()))
    pearson = correlation.tried(prepared, smoothed) @ prepared.weights * prepared.scale
    pearson = pearson.permute(1, 2, 0) / flux.norm(dim=1)[:, None, None]

    # Directly: the templates as they are, neither tapered, filtered nor written in components.
    raw = torch.from_numpy(library.flux(name, prepared.labels[:, :4])).double()
    raw = broaden_and_shift(
        raw / raw.mean(1, keepdim=True), torch.from_numpy(prepared.labels[:, 4]), torch.zeros(len(raw))
    )
    raw, _ = continuum.normalise(torch.from_numpy(prepared.arm.library_wavelength), raw)
    for place in range(0, prepared.lags + 1, 16):
        start = prepared.arm.library_margin - (STRIDE * place - prepared.lags)
        window = raw[:, start : start + pixels]
        window = window - window.mean(1, keepdim=True)
        direct = flux @ window.T / flux.norm(dim=1)[:, None] / window.norm(dim=1)
        assert torch.allclose(pearson[:, :, place].double(), direct, atol=1e-4, rtol=0.0)

    # And the few components of the default configuration lead to the same peak.
    few, full = spectra.measure(name, templates), spectra.measure(name, every)
    np.testing.assert_array_equal(few.teff, full.teff)
    np.testing.assert_allclose(few.velocity, full.velocity, atol=1e-6)
    np.testing.assert_allclose(few.ccfmax, full.ccfmax, atol=1e-9)


@pytest.mark.parametrize("name", ARM_NAMES)
def test_ccfmax_is_pearsons_coefficient_at_the_velocity(library: Library, templates: Templates, name: ArmName) -> None:
    spectra = expose(library, name, SUNLIKE, np.array([-41.3, 7.7, 188.2]), snr=40.0, seed=6)
    found = spectra.measure(name, templates)
    prepared = templates.arms[name]
    flux = on_grid(prepared, spectra).numpy()
    raw, _ = continuum.normalise(
        torch.from_numpy(prepared.arm.library_wavelength),
        torch.from_numpy(library.flux(name, prepared.labels[:, :4])).double(),
    )
    for row, value in enumerate(found.velocity):

        def coefficient(at: float, row: int = row) -> float:
            place = prepared.arm.loglam - np.log10(doppler_factor(at))
            return max(
                float(np.corrcoef(flux[row], CubicSpline(prepared.arm.library_loglam, raw[i])(place))[0, 1])
                for i in np.flatnonzero((prepared.labels[:, 0] == found.teff[row]) & (prepared.labels[:, 4] == 0))
            )

        assert coefficient(value) == pytest.approx(found.ccfmax[row], abs=1e-5)
        assert coefficient(value) > max(coefficient(value - 1.0), coefficient(value + 1.0))


def test_result_does_not_depend_on_the_batch(library: Library, templates: Templates) -> None:
    rng = np.random.default_rng(7)
    labels = np.column_stack([rng.uniform(4200, 7800, 150), rng.uniform(3, 4.8, 150), rng.uniform(-1, 0.4, 150)])
    labels = np.column_stack([labels, np.zeros(150)])
    for name in ARM_NAMES:
        spectra = expose(library, name, labels, rng.uniform(-300, 300, 150), snr=20.0, seed=8)
        whole = spectra.measure(name, templates)
        order = rng.permutation(150)
        shuffled = spectra[torch.from_numpy(order)].measure(name, templates)
        pieces = [spectra[slice(a, b)].measure(name, templates) for a, b in ((0, 1), (1, 30), (30, 97), (97, 150))]
        for field in dataclasses.fields(whole):
            values = getattr(whole, field.name)
            np.testing.assert_array_equal(getattr(shuffled, field.name), values[order])
            np.testing.assert_array_equal(np.concatenate([getattr(piece, field.name) for piece in pieces]), values)


@pytest.mark.parametrize("name", ARM_NAMES)
def test_noise_without_lines_has_no_velocity(templates: Templates, name: ArmName) -> None:
    rng = np.random.default_rng(9)
    x = torch.from_numpy(np.tile(native_pixels(name), (256, 1)))
    flux = torch.from_numpy(1.0 + 0.2 * rng.standard_normal(x.shape))
    normalised, level = continuum.normalise(x, flux)
    found = velocity.measure(name, x, normalised, 0.2 / level, templates)
    assert (found.quality == Quality.NO_VELOCITY).all()
    assert np.isnan(found.velocity).all()
    assert np.isnan(found.error).all()
    assert np.isnan(found.teff).all()
    assert np.isfinite(found.ccfmax).all()


def test_useless_input_has_no_velocity_and_does_no_harm(library: Library, templates: Templates) -> None:
    good = expose(library, "B", SUNLIKE, np.full(8, 20.0), snr=50.0, seed=10)
    spectra = Spectra(*(getattr(good, field.name).clone() for field in dataclasses.fields(good)))
    spectra.normalised[0] = torch.nan
    spectra.normalised[1] = 1.0  # no lines at all
    spectra.sigma[2] = torch.inf
    spectra.wavelength[3] = torch.nan
    spectra.wavelength[4] += 600.0  # misses the grid
    spectra.normalised[5] = -1.0
    found = spectra.measure("B", templates)
    np.testing.assert_array_equal(found.quality[:6], Quality.NO_VELOCITY)
    assert np.isnan(found.velocity[:6]).all()
    expected = good.measure("B", templates)
    np.testing.assert_array_equal(found.velocity[6:], expected.velocity[6:])
    np.testing.assert_array_equal(found.quality[6:], Quality.GOOD)


def test_peak_at_the_limit_is_refused(library: Library) -> None:
    narrow = Templates.build(library, VelocityConfig(limit=100.0))
    spectra = expose(library, "B", SUNLIKE, np.array([-118.0, -107.0, -95.0, 95.0, 107.0, 118.0]), snr=200.0, seed=11)
    found = spectra.measure("B", narrow)
    np.testing.assert_array_equal(found.quality == Quality.GOOD, [False, False, True, True, False, False])


def test_spikes_and_bad_pixels_are_bridged(library: Library, templates: Templates) -> None:
    true = np.linspace(-200.0, 200.0, 32)
    clean = expose(library, "R", K_DWARF, true, snr=50.0, seed=12)
    rng = np.random.default_rng(13)
    hit = torch.from_numpy(rng.random(clean.normalised.shape) < 0.01)
    wild = dataclasses.replace(clean, normalised=torch.where(hit, 40.0, clean.normalised))
    nan = dataclasses.replace(clean, normalised=torch.where(hit, torch.nan, clean.normalised))
    mild = torch.where(hit, 2.0, clean.normalised)
    spiked = wild.measure("R", templates)
    masked = velocity.measure("R", clean.wavelength, mild, clean.sigma, templates, hit)
    for field in dataclasses.fields(spiked):
        np.testing.assert_array_equal(getattr(spiked, field.name), getattr(masked, field.name))
        np.testing.assert_array_equal(getattr(spiked, field.name), getattr(nan.measure("R", templates), field.name))
    assert np.abs((spiked.velocity - true) / spiked.error).max() < 5.0


@pytest.mark.parametrize("name", ARM_NAMES)
def test_double_lines_give_the_primary(library: Library, templates: Templates, name: ArmName) -> None:
    true = np.linspace(-100.0, 100.0, 32)
    for separation in (-140.0, 140.0, 250.0):
        spectra = expose(library, name, SUNLIKE, true, snr=50.0, seed=14, second=(separation, 0.6))
        found = spectra.measure(name, templates)
        assert np.abs(found.velocity - true).max() < 10.0  # the secondary's lines pull a little


def test_broad_templates_serve_fast_rotators_only(library: Library, templates: Templates) -> None:
    star = (7800.0, 4.0, 0.0, 0.0)
    true = np.linspace(-150.0, 150.0, 64)
    rotator = expose(library, "B", star, true, snr=50.0, seed=15, vsini=150.0).measure("B", templates)
    assert abs(np.median(rotator.velocity - true)) < 3.0
    assert ((rotator.velocity - true) / rotator.error).std() < 1.5
    twins = expose(library, "B", star, true, snr=50.0, seed=16, second=(80.0, 0.8)).measure("B", templates)
    assert np.abs(twins.velocity - true).max() < 15.0  # not the middle


@pytest.mark.parametrize(
    ("name", "labels", "vsini", "median", "most"),
    [
        ("B", K_DWARF, 350.0, 4.0, 15.0),
        ("B", (6500.0, 4.2, 0.0, 0.0), 250.0, 6.0, 25.0),
        ("R", SUNLIKE, 250.0, 8.0, 30.0),
        ("R", (7500.0, 4.0, -0.2, 0.0), 350.0, 6.0, 20.0),
    ],
)
def test_fast_rotators_have_their_velocity(
    library: Library,
    templates: Templates,
    name: ArmName,
    labels: tuple[float, ...],
    vsini: float,
    median: float,
    most: float,
) -> None:
    true = np.linspace(-200.0, 200.0, 64)
    spectra = expose(library, name, labels, true, snr=40.0, seed=18, vsini=vsini)
    found = spectra.measure(name, templates)
    wrong = np.abs(found.velocity - true)
    assert np.median(wrong) < median
    assert wrong.max() < most
    chosen = velocity.correlate(name, spectra.wavelength, spectra.normalised, spectra.sigma, templates).labels
    assert (np.abs(chosen[:, 4] - vsini) <= 150.0).mean() > 0.9
    # By templates that do not rotate, they have not.
    slow = tuple(one for one in templates.config.templates if one[4] == 0.0)
    without = spectra.measure(name, Templates.build(library, VelocityConfig(templates=slow)))
    assert np.nanmedian(np.abs(without.velocity - true)) > 1.5 * np.median(wrong)


@pytest.mark.parametrize("name", ARM_NAMES)
@pytest.mark.parametrize("vsini", [5.0, 40.0])
def test_templates_that_rotate_are_not_for_slow_stars(
    library: Library, templates: Templates, name: ArmName, vsini: float
) -> None:
    labels = np.array([SUNLIKE, K_DWARF, (6600.0, 4.2, -0.2, 0.0), (4500.0, 2.5, -0.5, 0.2)]).repeat(16, axis=0)
    for snr in (10.0, 40.0):
        spectra = expose(library, name, labels, np.linspace(-90.0, 90.0, 64), snr=snr, seed=19, vsini=vsini)
        columns = spectra.wavelength, spectra.normalised, spectra.sigma
        assert (velocity.correlate(name, *columns, templates).labels[:, 4] == 0.0).all()


@pytest.mark.parametrize("name", ARM_NAMES)
def test_two_stars_that_rotate_are_at_rest_at_one_of_them_or_between(
    library: Library, templates: Templates, name: ArmName
) -> None:
    true = np.linspace(-50.0, 50.0, 32)
    for vsini, separation in ((60.0, 150.0), (120.0, 250.0)):
        twins = expose(library, name, SUNLIKE, true, snr=50.0, seed=20, vsini=vsini, second=(separation, 0.7))
        place = twins.measure(name, templates).velocity - true
        assert ((place > -20.0) & (place < separation + 20.0)).all()


@settings(max_examples=25, deadline=None)
@given(value=st.floats(-999.0, 999.0))
def test_pixel_shifts_invert(value: float) -> None:
    assert velocity_of_shift(pixel_shift(value)) == pytest.approx(value, abs=1e-9)


def test_receding_is_positive(library: Library, templates: Templates) -> None:
    spectra = expose(library, "R", SUNLIKE, np.array([0.0]), snr=1e4, seed=17)
    redder = dataclasses.replace(spectra, wavelength=spectra.wavelength * (1.0 + 50.0 / 299_792.458))
    at_rest, receding = spectra.measure("R", templates), redder.measure("R", templates)
    assert receding.velocity[0] - at_rest.velocity[0] == pytest.approx(50.0, abs=0.1)


def test_empty_batch(templates: Templates) -> None:
    empty = torch.zeros(0, 100)
    found = velocity.measure("B", empty, empty, empty, templates)
    assert found.velocity.shape == found.quality.shape == (0,)


def test_refusals_say_what_is_wrong(library: Library, templates: Templates) -> None:
    x = torch.zeros(2, 100)
    with pytest.raises(ValueError, match=r"sigma has shape \(2, 99\), wavelength has \(2, 100\)"):
        velocity.measure("B", x, x, x[:, 1:], templates)
    with pytest.raises(ValueError, match=r"expected \(spectrum, pixel\)"):
        velocity.measure("B", x[0], x[0], x[0], templates)
    with pytest.raises(ValueError, match="no arm is called 'G'"):
        velocity.measure("G", x, x, x, templates)
    with pytest.raises(ValueError, match=r"lower VelocityConfig\.limit"):
        Templates.build(library, VelocityConfig(limit=5000.0))
    with pytest.raises(ValueError, match=r"all 1 templates rotate \(vsini 100 km/s or more\)"):
        Templates.build(library, VelocityConfig(templates=((6000.0, 4.0, 0.0, 0.0, 100.0),)))
    with pytest.raises(OutsideLibraryError, match="12000"):
        Templates.build(library, VelocityConfig(templates=((12000.0, 4.0, 0.0, 0.0, 0.0),)))


@pytest.mark.skipif(not (SHARED / "lamost").is_dir(), reason="needs the real LAMOST files in ../shared")
def test_real_star_has_its_known_velocities(templates: Templates) -> None:
    for name, expected in (("B", -53.0), ("R", -49.0)):
        with fitsio.FITS(str(SHARED / "lamost" / "med-58408-TD230151N343645T01_sp01-015.fits")) as hdus:
            tables = [hdu.read() for hdu in hdus if hdu.get_extname().startswith(f"{name}-")]
        columns = [
            np.stack([table[column] for table in tables]).astype(dtype)
            for column, dtype in (("FLUX", "f4"), ("IVAR", "f4"), ("LOGLAM", "f4"), ("PIXMASK", "u1"))
        ]
        observed = preprocess.observe(arm(name), *columns)
        relative = observed.normalised / observed.flux * observed.sigma
        found = velocity.measure(name, observed.wavelength, observed.normalised, relative, templates, observed.bad)
        assert len(found.velocity) == 7
        np.testing.assert_allclose(found.velocity, expected, atol=3.0)
        assert found.velocity.std() < 0.5
        assert (found.error < 0.3).all()
