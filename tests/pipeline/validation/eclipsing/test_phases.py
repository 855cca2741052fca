"""Eclipsing binaries: phases, the W, orbits from velocities, and real spectra in the order of phase."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from distributed import Client
from typer.testing import CliRunner

from tests.places import SHARED
from twinlines.pipeline.binaries.fits.survey import fit
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.cli import main
from twinlines.pipeline.figures.eclipsing import phases_figure
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, InferenceParameters
from twinlines.pipeline.survey import compute
from twinlines.pipeline.testing.verdicts import MadeVerdicts, make_verdicts
from twinlines.pipeline.usertables.ephemerides import read_ephemerides
from twinlines.pipeline.usertables.files import UserTableError
from twinlines.pipeline.validation.eclipsing.circle import fit_circle
from twinlines.pipeline.validation.eclipsing.phases import EclipsingConfig, eclipsing
from twinlines.pipeline.validation.eclipsing.spectra import star_row
from twinlines.pipeline.validation.observed import ValidationError


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the time of a publication goes into making it outlive a loss of power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def made() -> MadeVerdicts:
    return make_verdicts(5, exposures=12)


def kebc(made: MadeVerdicts, path: Path, offset: float = -2_400_000.0) -> Path:
    """Ephemerides of the binaries, as the Kepler Eclipsing Binary Catalog's download has them."""
    mine = made.stars[made.stars["binary"]]
    rows = [f"{row['star']},{row['period']},{row['epoch'] + offset},0.5,{row['ra']},{row['dec']}," for row in mine]
    path.write_text("\n".join(["## Revision", "##", "KIC,period,bjd0,sep,ra,dec,", *rows]) + "\n")
    return path


def test_the_w_of_binaries_that_are_double_away_from_eclipses(made: MadeVerdicts, tmp_path: Path) -> None:
    stars = read_ephemerides(kebc(made, tmp_path / "kebc.csv"), timed=True)
    assert "'bjd0' is taken for BJD - 2400000" in stars.notes
    config = EclipsingConfig(periods=(1.0, 100.0))
    result = eclipsing(tmp_path, made.catalog, stars, config)
    truth = made.stars[result.rows["obsid"].values - 700_000_000]
    expected = ((result.rows["bjdmid"].values - truth["epoch"]) / truth["period"]) % 1.0
    np.testing.assert_allclose(result.phase, expected, atol=1e-6)
    every, single, number = result.w("J")
    assert every.sum() == result.counts["J"].sum() > 100
    # The made-up exposures are double where |sin| is above 0.6: from phase 0.103 to 0.397, and half an orbit later.
    assert single[[0, 1, 8, 9, 10, 11, 18, 19]].tolist() == every[[0, 1, 8, 9, 10, 11, 18, 19]].tolist()
    assert single[[3, 4, 5, 6, 13, 14, 15, 16]].sum() == 0
    assert number.max() <= len(np.unique(result.star))
    said = result.to_json()["heads"]["B"]
    assert said["near_eclipse"]["double"] <= 2
    assert said["out_of_eclipse"]["double"] > 0.9 * said["out_of_eclipse"]["exposures"]
    assert any("no two-star fits" in note for note in result.notes)
    assert np.isnan(result.expected).all()
    # Fewer count where more is asked for; none is lost from the table.
    strict = eclipsing(tmp_path, made.catalog, stars, EclipsingConfig(snr=40.0, periods=(1.0, 10.0)))
    assert strict.counts["R"].sum() < result.counts["R"].sum()
    assert len(strict.table()) == len(result.table()) == len(result.phase)
    assert phases_figure(result, tmp_path / "phases.png").stat().st_size > 10_000
    assert star_row(result, "KIC3") == star_row(result, "700000003")
    with pytest.raises(ValidationError, match=r"no exposure of a star 'KIC5' of .*kebc\.csv; it has"):
        star_row(result, "KIC5")


def test_epochs_in_other_forms(made: MadeVerdicts, tmp_path: Path) -> None:
    usual = read_ephemerides(kebc(made, tmp_path / "kebc.csv"), timed=True)
    whole = read_ephemerides(kebc(made, tmp_path / "bjd.csv", 0.0), timed=True)
    tess = read_ephemerides(kebc(made, tmp_path / "tess.csv", -2_457_000.0), offset=2_457_000.0, timed=True)
    for other in (whole, tess):
        np.testing.assert_allclose(other.eclipse, usual.eclipse, atol=1e-6)
    with pytest.raises(UserTableError, match=r"row 0 has bjd0 = 1000\.\d+, .* give --epoch-offset"):
        read_ephemerides(tmp_path / "tess.csv", timed=True)
    text = (tmp_path / "kebc.csv").read_text().splitlines()
    cells = text[4].split(",")
    text[3] = text[3].replace(text[3].split(",")[1], "-1", 1)
    text[4] = ",".join([*cells[:2], "5487.3", *cells[3:]])
    (tmp_path / "odd.csv").write_text("\n".join(text))
    odd = read_ephemerides(tmp_path / "odd.csv", timed=True)
    assert np.isnan(odd.period[:2]).all()
    assert np.isfinite(odd.period[2:]).all()
    assert any("1 periods are not above 0, the first in row 0 (period = -1 d)" in note for note in odd.notes)
    assert any("2 of its 20 rows have no period or no time of an eclipse" in note for note in odd.notes)
    assert any("the first in row 1 (bjd0 = 5487.3): left out" in note for note in odd.notes)
    (tmp_path / "none.csv").write_text("ra,dec,period\n1,2,3\n")
    with pytest.raises(UserTableError, match="no column of eclipse, by any of the names bjd0"):
        read_ephemerides(tmp_path / "none.csv", timed=True)


def test_a_star_with_two_ephemerides_has_no_phase(made: MadeVerdicts, tmp_path: Path) -> None:
    path = kebc(made, tmp_path / "kebc.csv")
    line = path.read_text().splitlines()[4]
    path.write_text(f"{path.read_text()}{line.replace(line.split(',')[1], '17.0', 1)}\n")
    before, after = (len(eclipsing(tmp_path, made.catalog, read_ephemerides(each, timed=True)).phase) for each in (
        kebc(made, tmp_path / "one.csv"), path
    ))  # fmt: skip
    assert after == before - 12


def test_an_unsure_phase_does_not_count(made: MadeVerdicts, tmp_path: Path) -> None:
    mine = made.stars[made.stars["binary"]]
    table = Table({name: mine[name] for name in ("ra", "dec", "period")})
    table["bjd0"], table["period_err"] = mine["epoch"], 0.0002 * mine["period"]
    table.write(tmp_path / "rough.fits")
    result = eclipsing(tmp_path, made.catalog, read_ephemerides(tmp_path / "rough.fits", timed=True), EclipsingConfig())
    unsure = result.phase_error > 0.05
    assert 0 < unsure.sum() < len(unsure)
    np.testing.assert_allclose(
        result.phase_error, 0.0002 * (result.rows["bjdmid"] - made.stars["epoch"][result.rows["obsid"] - 700_000_000])
        / made.stars["period"][result.rows["obsid"] - 700_000_000],
    )  # fmt: skip
    assert not result.counts["J"][unsure].any()


@pytest.mark.parametrize("seed", range(4))
def test_amplitudes_are_within_their_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    phase, bjd = rng.uniform(0.0, 1.0, 40), 2_458_000.2 + np.repeat(np.arange(20.0), 2)
    sine = np.sin(2.0 * np.pi * phase)
    true = np.stack([-15.0 - 77.0 * sine, -15.0 + 94.0 * sine], axis=1)
    true += np.repeat(rng.normal(0.0, 4.0, 20), 2)[:, None]
    velocity = true + rng.normal(0.0, 2.0, true.shape)
    swap = rng.random(40) < 0.5  # the order of the stars says nothing
    velocity[swap] = velocity[swap][:, ::-1]
    circle = fit_circle(phase, bjd, velocity, np.full(true.shape, 2.0))
    assert circle is not None
    assert circle.sum_amplitude == pytest.approx(171.0, abs=3.5 * circle.sum_amplitude_error)
    assert circle.sum_amplitude_error < 1.0
    assert circle.amplitude_a == pytest.approx(77.0, abs=3.5 * circle.amplitude_error)
    assert circle.amplitude_b == pytest.approx(94.0, abs=3.5 * circle.amplitude_error)
    assert circle.gamma == pytest.approx(-15.0, abs=3.5 * circle.gamma_error)
    np.testing.assert_allclose(circle.separation(np.array([0.0, 0.25])), [0.0, circle.sum_amplitude], atol=1e-9)


def test_an_orbit_of_few_exposures() -> None:
    nothing = fit_circle(np.array([0.5]), np.array([1.0]), np.array([[1.0, 2.0]]), np.ones((1, 2)))
    assert nothing is None
    one = fit_circle(np.array([0.25]), np.array([1.0]), np.array([[60.0, -50.0]]), np.ones((1, 2)))
    assert one is not None
    assert one.sum_amplitude == pytest.approx(110.0)
    assert np.isnan([one.amplitude_a, one.gamma, one.scatter]).all()


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "lamost").is_dir(), reason="needs the survey's real files in ../shared/lamost")
def test_a_real_eclipsing_binary(client: Client, tmp_path: Path) -> None:
    """KIC 8098300: double on the nights away from its eclipses, where its orbit says so."""
    survey, out = tmp_path / "survey", tmp_path / "out"
    ingest(client, SHARED / "lamost", survey, "dr7")
    compute.run(client, survey, weights=SHIPPED_WEIGHTS, parameters=InferenceParameters(n_draws=2))
    stars = read_ephemerides(SHARED / "catalogs" / "kebc.csv", timed=True)
    assert any("2 rows have an epoch that is no such date" in note for note in stars.notes)
    of_star = eclipsing(survey, catalog.open(survey), stars).rows["obsid"].values
    assert fit(client, survey, obsids=np.unique(of_star).tolist()).complete
    arguments = ["--survey", str(survey), "--table", str(SHARED / "catalogs" / "kebc.csv"), "--out", str(out), "--json"]
    done = CliRunner().invoke(main.app, ["validate", "kebc", *arguments], catch_exceptions=False)
    said = json.loads(done.output)
    assert (said["stars"], said["exposures"]) == (1, 15)
    for head in ("B", "R", "J"):
        assert said["heads"][head]["out_of_eclipse"] == {"exposures": 3, "double": 3}
    orbit = said["orbits"]["8098300"]
    assert orbit["exposures"] == 7
    assert orbit["sum_amplitude"] == pytest.approx(171.0, abs=6.0)
    assert orbit["scatter"] < 4.0
    # Within one night the ratio of the amplitudes is 0.82; another night's zero point is in the error.
    assert orbit["amplitude_a"] == pytest.approx(171.0 * 0.82 / 1.82, abs=2.0 * orbit["amplitude_error"])
    rows = Table.read(out / "phases.ecsv")
    together = rows[rows["obsid"] == 744812076]
    assert np.all(together["expected_separation"] < 30.0)
    assert np.all(together["p50_J"][np.isfinite(together["p50_J"])] < 0.5)
    assert sorted(path.name for path in out.iterdir()) == ["phases.ecsv", "phases.png", "spectra.png"]
