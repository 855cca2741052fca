"""Orbits of a survey's stars: kept, resumed, incremental, by ephemerides; and the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from distributed import Client
from typer.testing import CliRunner

from tests.pipeline.binaries.sources.conftest import Parts
from tests.pipeline.binaries.sources.test_source import AMPLITUDES, PERIOD, TIMES, rows_of
from twinlines.pipeline.binaries.fits.store import FitsError
from twinlines.pipeline.binaries.orbits.sampler import Sampling
from twinlines.pipeline.binaries.orbits.solution import Fitting
from twinlines.pipeline.binaries.orbits.summary import ELEMENTS, OrbitStatus
from twinlines.pipeline.binaries.schema import ORBIT_SAMPLES, ORBITS, SOURCES
from twinlines.pipeline.binaries.sources.binary import open_binary
from twinlines.pipeline.binaries.sources.orbits import sample_orbits
from twinlines.pipeline.binaries.sources.priors import read_priors
from twinlines.pipeline.binaries.sources.solutions import open_orbits, open_samples
from twinlines.pipeline.binaries.sources.survey import make_sources, open_sources
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.cli import main as cli
from twinlines.pipeline.usertables.ephemerides import EphemerisError

QUICK = Fitting(sampling=Sampling(prior_samples=4096, more_prior_samples=16384, peaks=48, draws=1024, kept=128))
PREFIX = 2_458_000.0


def test_solutions_and_samples_are_kept_and_nothing_is_sampled_twice(client: Client, three: Path) -> None:
    with pytest.raises(FitsError, match="has no stars yet; 'twinlines binaries sources"):
        sample_orbits(client, three)
    table = make_sources(three)
    assert np.isnan(table["period"]).all()
    with pytest.raises(FitsError, match="has no orbits yet; 'twinlines binaries orbits"):
        open_orbits(three)
    report = sample_orbits(client, three, fitting=QUICK)
    assert (report.stars, report.sampled, report.before) == (3, 3, 0)
    assert (report.orbits, report.samples) == (2, 2)  # one epoch is too few
    orbits, samples = open_orbits(three).load(), open_samples(three).load()
    ORBITS.validate(orbits)
    ORBIT_SAMPLES.validate(samples)
    stars = open_sources(three).load()
    SOURCES.validate(stars)
    best = orbits.isel(solution=orbits["solution_id"].values == 0)
    assert best["obsid"].values.tolist() == stars["obsid"].values.tolist() == [1000, 2000, 3000]
    # The table of stars has the likeliest solution of each.
    for name in ("period", "mass_ratio_error", "mode_probability", "modes"):
        np.testing.assert_array_equal(stars[name], best[name])
    np.testing.assert_array_equal(stars["orbit_chi2"], best["obj_func"])
    assert int(best["flags"][2]) == OrbitStatus.TOO_FEW_EPOCHS
    assert np.isnan(best["period"][2])
    assert float(best["limit_separation"][2]) > 40.0
    assert abs(float(best["period"][0]) - PERIOD) < 5.0 * float(best["period_error"][0])
    for obsid in (1000, 2000):
        mine = orbits.isel(solution=orbits["obsid"].values == obsid)
        drawn = samples.isel(sample=samples["obsid"].values == obsid)
        probability = mine["mode_probability"].values
        assert (np.diff(probability) <= 0.0).all()
        assert mine["solution_id"].values.tolist() == list(range(len(probability)))
        assert drawn.sizes["sample"] == 128
        # The share of the samples that are of a solution is its probability.
        for place, share in enumerate(probability):
            of_it = drawn["solution_id"].values == place
            assert of_it.mean() == pytest.approx(share)
            assert np.abs(drawn["period"].values[of_it] - float(mine["period"][place])).min() < 1e-9
    again = sample_orbits(client, three, fitting=QUICK)
    assert (again.sampled, again.before) == (0, 3)
    for name in ORBITS.variables:
        np.testing.assert_array_equal(open_orbits(three)[name], orbits[name])
    fewer = sample_orbits(client, three, fitting=QUICK, sampled=1)
    assert fewer.samples == 1
    assert set(open_samples(three)["obsid"].values.tolist()) == {1000}  # whose period is known best
    with pytest.raises(FitsError, match="samples of -1 stars"):
        sample_orbits(client, three, sampled=-1)


def test_a_new_epoch_costs_its_star_alone_and_a_broken_call_goes_on(
    client: Client, three: Path, survey: Callable[[Parts], Path]
) -> None:
    make_sources(three)
    seen: list[int] = []

    def stop(_stage: str, done: int, _total: int) -> None:
        seen.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_orbits(client, three, fitting=QUICK, progress=stop)
    assert seen == [0, 1, 2]
    with pytest.raises(FitsError, match="has no orbits yet"):  # not some of them
        open_orbits(three)
    report = sample_orbits(client, three, fitting=QUICK)
    assert (report.sampled, report.before) == (1, 2)
    before = open_sources(three).load()
    # A night is added to the second star.
    survey([rows_of(TIMES), rows_of(TIMES[:6], star=1), rows_of(TIMES[[3]], star=2)])
    with (
        pytest.raises(FitsError, match="other fits, or zero points, than those in force; 'twinlines binaries sources"),
        pytest.warns(UserWarning, match="of fits that were added to since"),
    ):
        sample_orbits(client, three, fitting=QUICK)
    table = make_sources(three)
    assert float(table["period"][0]) == float(before["period"][0])  # as it was
    assert np.isnan(table["period"][1])
    report = sample_orbits(client, three, fitting=QUICK)
    assert (report.sampled, report.before) == (1, 2)
    assert np.isfinite(open_sources(three)["period"][1])


def ephemerides(tmp_path: Path, rows: list[tuple[float, float, float, float]]) -> Path:
    """A table of ephemerides: ra, dec, period, time of eclipse less 2400000."""
    table = Table(rows=rows, names=("RAJ2000", "DEJ2000", "Per", "bjd0"))
    table.write(tmp_path / "eb.csv", overwrite=True)
    return tmp_path / "eb.csv"


def test_a_known_period_gives_an_orbit_where_epochs_are_few(client: Client, three: Path, tmp_path: Path) -> None:
    make_sources(three)
    # v1 is largest a quarter of a turn after the epoch of the phases, and the stars pass each other at its begin.
    path = ephemerides(tmp_path, [(100.0, 0.0, 2.5, 55000.0), (11.0, 40.0, PERIOD, PREFIX - 2_400_000.0)])
    known = read_priors(path)
    assert any("'bjd0' is taken for BJD - 2400000" in note for note in known.notes)
    free = sample_orbits(client, three, fitting=QUICK)
    report = sample_orbits(client, three, ephemerides=known, fitting=QUICK)
    assert report.sampled == 1  # the one whose ephemeris is known
    assert report.ephemerides is not None
    assert report.ephemerides["stars"] == 1
    assert report.periods >= free.periods
    binary = open_binary(three, 2001, spectra=False)
    assert binary.solutions.sizes["solution"] == 1
    assert float(binary.solutions["ephemeris_period"][0]) == PERIOD
    assert int(binary.solutions["flags"][0]) & OrbitStatus.EPHEMERIS
    assert float(binary.solutions["period"][0]) == pytest.approx(PERIOD, rel=1e-5)
    ratio, error = (float(binary.solutions[name][0]) for name in ("mass_ratio", "mass_ratio_error"))
    assert abs(ratio - AMPLITUDES[0] / AMPLITUDES[1]) < 4.0 * error
    # What is known counts for the call that is told of it.
    assert sample_orbits(client, three, fitting=QUICK).sampled == 0
    assert np.isnan(open_binary(three, 2001, spectra=False).solutions["ephemeris_period"][0])
    twice = read_priors(ephemerides(tmp_path, [(11.0, 40.0, 3.0, 55000.0), (11.0, 40.0, PERIOD, 55000.0)]))
    with pytest.raises(EphemerisError, match=r"rows 0 and 1 \(periods 3 and 4\.3059 d\) are both of the star at ra 1"):
        sample_orbits(client, three, ephemerides=twice, fitting=QUICK)
    far = read_priors(ephemerides(tmp_path, [(100.0, 0.0, 3.0, 55000.0)]))
    with pytest.raises(EphemerisError, match=r"none of its 1 rows lies within 3 arcsec of one of the survey's 3 st"):
        sample_orbits(client, three, ephemerides=far, fitting=QUICK)


def test_identical_epochs_and_a_single_one_give_limits(client: Client, survey: Callable[[Parts], Path]) -> None:
    folder = survey([rows_of([TIMES[0]] * 6), rows_of(TIMES[[0]], star=1)])
    make_sources(folder)
    report = sample_orbits(client, folder, fitting=QUICK)
    assert (report.stars, report.orbits, report.samples) == (2, 0, 0)
    orbits = open_orbits(folder)
    assert (orbits["flags"].values == OrbitStatus.TOO_FEW_EPOCHS).all()
    assert open_samples(folder).sizes["sample"] == 0


def asked(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli.app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_commands_list_and_show_stars(client: Client, three: Path, tmp_path: Path) -> None:
    assert "3 stars with two sets of lines; the period of 0 is known" in asked("binaries", "sources", "--survey", three)
    sample_orbits(client, three)
    path = ephemerides(tmp_path, [(10.0, 40.0, PERIOD, 55000.0)])
    # By the command, in workers of its own: one star is asked for anew, as its ephemeris is known.
    path.write_text("# made up\n" + path.read_text().replace("bjd0", "when"))
    shown = asked(
        *("binaries", "orbits", "--survey", three, "--ephemerides", path, "--workers", "1"),
        *("--column", "eclipse=when"),
    )
    assert "ra from 'RAJ2000', dec from 'DEJ2000', period from 'Per', eclipse from 'when'" in shown
    assert "1 of the survey's 3 stars have one, by position" in shown
    assert "stars: 3, 1 sampled now, 2 before" in shown
    listed = json.loads(asked("catalog", "sources", "--survey", three, "--sort", "obsid", "--json"))
    assert [row["obsid"] for row in listed] == [1000, 2000, 3000]
    assert set(listed[0]) == set(SOURCES.variables)
    short = json.loads(asked("catalog", "sources", "--survey", three, "--longest", "4.31", "--json"))
    assert 1000 in [row["obsid"] for row in short]
    assert 3000 not in [row["obsid"] for row in short]  # whose period is not known
    one = json.loads(asked("catalog", "source", "1003", "--survey", three, "--json"))
    assert len(one["exposures"]) == 16
    assert one["binary"]["star"]["obsid"] == 1000
    assert one["binary"]["solutions"][0]["period"] == pytest.approx(PERIOD, rel=1e-4)
    assert len(one["binary"]["velocities"]) == 16
    for each in one["binary"]["velocities"]:
        assert each["rv_primary_fit_error"] == pytest.approx(0.8)  # as the fit states it
        assert each["rv_primary_error"] > 4.0  # with the night's zero point, which is not known
        assert each["rv_secondary_fit_error"] == pytest.approx(0.8)
    text = asked("catalog", "source", "1003", "--survey", three)
    assert "± total: what mass ratio and orbit are made with (no zero points: 4 km/s" in text
    assert "mass ratio by the velocities alone: 0.8" in text or "mass ratio by the velocities alone: 0.7" in text
    assert "orbit: ephemeris" in text
    for wrong, message in (("period", "not of the form WHAT=NAME"), ("=x", "not of the form"), ("x=y", "no quantity")):
        done = CliRunner().invoke(
            cli.app,
            ["binaries", "orbits", "--survey", str(three), "--ephemerides", str(path), "--column", wrong],
        )
        assert done.exit_code != 0
        assert message in done.output or message in str(done.exception)
    done = CliRunner().invoke(cli.app, ["binaries", "orbits", "--survey", str(three), "--column", "period=P"])
    assert "give --ephemerides, too" in str(done.exception)


def test_a_catalog_s_stars_are_asked_from_python(client: Client, three: Path) -> None:
    make_sources(three)
    sample_orbits(client, three, fitting=QUICK)
    rows = catalog.open(three)
    assert rows.binaries.sources(least_double=4)["obsid"].values.tolist() == [1000, 2000]
    assert rows.sb2.source(1000).binaries.source(1000, spectra=False).name == "obsid 1000"  # a part of it, too
    table = rows.binaries.source(1000, spectra=False).table
    assert all(np.isfinite(table[name]).all() for name in ELEMENTS)
