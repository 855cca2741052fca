"""A survey's stars with zero points: better mass ratios and systemic velocities, and what is stale when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table
from distributed import Client
from typer.testing import CliRunner

from tests.pipeline.binaries.sources.conftest import Parts
from tests.pipeline.binaries.sources.test_orbits import QUICK
from tests.pipeline.binaries.sources.test_source import AMPLITUDES, GAMMA, TIMES, rows_of
from twinlines.pipeline.binaries.fits.store import FitsError
from twinlines.pipeline.binaries.sources.binary import open_binary
from twinlines.pipeline.binaries.sources.orbits import sample_orbits
from twinlines.pipeline.binaries.sources.survey import StaleWarning, make_sources, open_sources
from twinlines.pipeline.binaries.zeropoints.calibrated import ReferenceSource, calibrate
from twinlines.pipeline.cli import main as cli
from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.survey.folder import Survey

SINGLES = 10


def misplaced(seed: int = 2) -> tuple[Parts, Table]:
    """A binary whose exposures have zero points of 6 km/s, stars beside it, and reference velocities of these."""
    rng = np.random.default_rng(seed)
    count = len(TIMES)
    zero = rng.normal((2.0, -1.0), 6.0, (count, 2))  # by exposure and arm
    catalog, fits = rows_of(TIMES)
    offset = zero[:, 0] - zero[:, 1] + rng.normal(0.0, 0.5, count)
    moved = {name: fits[name].values - zero[:, 0] for name in ("rv1", "rv2", "rv_single")}
    columns = {**moved, "arm_offset": offset, "arm_offset_err": np.full(count, 0.5), "flux_ratio_R": np.ones(count)}
    values = {name: ("exposure", each.astype(np.float32)) for name, each in columns.items()}
    parts = [(catalog, fits.assign(values))]
    velocity = rng.normal(0.0, 30.0, SINGLES)
    sky = {"ra": 20.0 + np.arange(SINGLES) / 10.0, "dec": np.full(SINGLES, 40.0)}
    single = {
        "obsid": 10_000 + np.arange(count * SINGLES),
        "lmjm": np.repeat(np.arange(count), SINGLES),
        "bjdmid": np.repeat(2_458_000.0 + TIMES, SINGLES),
        **{name: np.tile(values, count) for name, values in sky.items()},
        **{f"rv_obs_err_{arm}": np.full(count * SINGLES, 0.3) for arm in "BR"},
    }
    for place, arm in enumerate("BR"):
        noise = rng.normal(0.0, 0.3, count * SINGLES)
        single[f"rv_obs_{arm}"] = np.tile(velocity, count) - np.repeat(zero[:, place], SINGLES) + noise
    nothing = rows_of([])[1]
    parts.append((CATALOG.dataset(single, count * SINGLES), nothing))
    columns = {"radial_velocity": velocity * u.km / u.s, "radial_velocity_error": np.full(SINGLES, 0.2) * u.km / u.s}
    return parts, Table({**{name: values * u.deg for name, values in sky.items()}, **columns})


@pytest.fixture
def place(survey: Callable[[Parts], Path], tmp_path: Path) -> Path:
    """A survey whose velocities are off, without zero points; reference velocities lie beside it."""
    parts, references = misplaced()
    references.write(tmp_path / "gaia.fits")
    return survey(parts)


def test_zero_points_make_mass_ratios_and_systemic_velocities_better(place: Path) -> None:
    plain = make_sources(place)
    assert "zero_points" not in open_sources(place).attrs
    calibrate(place, ReferenceSource(place.parent / "gaia.fits"))
    scaled = make_sources(place)
    assert open_sources(place).attrs["zero_points"] == Survey(place).current.name  # type: ignore[union-attr]
    assert scaled["obsid"].values[0] == 1000
    true = {"wilson_mass_ratio": AMPLITUDES[0] / AMPLITUDES[1], "wilson_velocity": GAMMA}
    for name, value in true.items():
        before, after = (table[f"{name}_error"].values[:1] for table in (plain, scaled))
        assert (after < 0.4 * before).all()
        assert (np.abs(scaled[name].values[:1] - value) < 3.5 * after).all()
    assert np.abs(scaled["wilson_velocity"].values[:1] - GAMMA).max() < 1.0
    assert (scaled["wilson_p_value"].values[:1] > 1e-3).all()
    # What zero points do not move: how far apart the stars are, and how many exposures count.
    for name in ("separation_largest", "epochs_double", "epochs_blended", "delta_chi2_sum"):
        np.testing.assert_array_equal(plain[name], scaled[name])
    binary = open_binary(place, 1000, spectra=False)
    total = np.sqrt(binary.epochs.covariance[binary.epochs.resolved][:, 0, 0])
    assert (total < 1.5).all()
    assert (total > 0.8).all()
    np.testing.assert_allclose(binary.fit_errors(), 0.8, rtol=1e-6)  # the fit's own
    assert binary.scaled


def test_an_exposure_without_a_zero_point_is_taken_to_have_the_usual_one(
    survey: Callable[[Parts], Path], tmp_path: Path
) -> None:
    parts, references = misplaced()
    references.write(tmp_path / "gaia.fits")
    catalog, fits = parts[-1]
    few = catalog.isel(exposure=catalog["lmjm"].values >= 2)  # two exposures have no star but the binaries
    place = survey([*parts[:-1], (few, fits)])
    calibrate(place, ReferenceSource(tmp_path / "gaia.fits"))
    make_sources(place)
    binary = open_binary(place, 1000, spectra=False)
    scaled = np.isfinite(binary.exposures["rv1_abs"].values)
    assert (~scaled).sum() == 2
    error = np.sqrt(binary.epochs.covariance[:, 0, 0])
    assert error[binary.epochs.resolved & ~scaled].min() > 4.0
    assert error[binary.epochs.resolved & scaled].max() < 1.5


def asked(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli.app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_what_is_stale_is_said_and_made_anew_without_a_fit(client: Client, place: Path) -> None:
    make_sources(place)
    first = sample_orbits(client, place, fitting=QUICK)
    assert first.sampled == 1
    velocities = open_binary(place, 1000, spectra=False).epochs.velocity
    fits = sorted(path.name for path in (place / "fits").rglob("fits-*.zarr"))
    said = asked("zeropoints", "--survey", place, "--reference", place.parent / "gaia.fits")
    assert f"'twinlinesbinariessources--survey{place}'andthen'twinlinesbinariesorbits" in "".join(said.split())
    with pytest.warns(StaleWarning, match=r"velocities before the zero points made-.* were; 'twinlines binaries so"):
        old = open_sources(place).load()
    assert np.isfinite(old["period"][:1]).all()  # what there was stays, as it was made
    with pytest.warns(StaleWarning):
        np.testing.assert_array_equal(open_binary(place, 1000, spectra=False).epochs.velocity, velocities)
    with pytest.warns(StaleWarning), pytest.raises(FitsError, match="are of other fits, or zero points, than those"):
        sample_orbits(client, place, fitting=QUICK)
    table = make_sources(place)
    assert np.isnan(table["period"]).all()  # orbits of other velocities are none of theirs
    report = sample_orbits(client, place, fitting=QUICK)
    assert (report.sampled, report.before) == (1, 0)
    after = open_sources(place).load()
    assert (after["center_of_mass_velocity_error"][:1] < old["center_of_mass_velocity_error"][:1]).all()
    assert sorted(path.name for path in (place / "fits").rglob("fits-*.zarr")) == fits
    # A new release's catalog has no zero points yet: that is said before velocities are off again.
    Survey(place).make_current("made-000001.zarr")
    with pytest.warns(StaleWarning, match="with zero points that the catalog lacks; 'twinlines zeropoints --survey"):
        open_sources(place)
    with pytest.warns(StaleWarning, match="has no zero points, and an earlier one had: the stars' velocities are as"):
        plain = make_sources(place)
    np.testing.assert_array_equal(plain["wilson_velocity"], old["wilson_velocity"])
    assert sample_orbits(client, place, fitting=QUICK).sampled == 0  # nor are their orbits lost


def test_exported_fits_have_both_velocities(place: Path, tmp_path: Path) -> None:
    asked("binaries", "export", "--survey", place, tmp_path / "plain.fits")
    calibrate(place, ReferenceSource(tmp_path / "gaia.fits"))
    asked("binaries", "export", "--survey", place, tmp_path / "scaled.vot")
    plain, scaled = Table.read(tmp_path / "plain.fits"), Table.read(tmp_path / "scaled.vot")
    assert "rv1_abs" not in plain.colnames
    assert scaled["rv1_abs"].unit == u.km / u.s
    assert np.isfinite(scaled["rv1_abs"]).all()
    np.testing.assert_array_equal(plain["rv1"], scaled["rv1"])
