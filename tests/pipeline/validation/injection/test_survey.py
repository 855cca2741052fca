"""Injection into a survey's own spectra: resumed, kept beside the catalog, joined to stars."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy.table import Table
from distributed import Client
from typer.testing import CliRunner

from twinlines.models.checkpoint import CheckpointError
from twinlines.pipeline.binaries.schema import SOURCES
from twinlines.pipeline.cli import console, options
from twinlines.pipeline.cli import main as cli
from twinlines.pipeline.cli.validate import show_injection
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.mock.release import MockConfig, MockDefects, make_release
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, InferenceParameters
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import compute
from twinlines.pipeline.validation.injection import survey as injecting
from twinlines.pipeline.validation.injection.completeness import measure
from twinlines.pipeline.validation.injection.draws import InjectionConfig
from twinlines.pipeline.validation.injection.reals import RealConfig
from twinlines.pipeline.validation.injection.stored import open_completeness, with_completeness
from twinlines.pipeline.validation.injection.survey import InjectionReport, inject
from twinlines.pipeline.validation.schema import COMPLETENESS, INJECTIONS
from twinlines.pipeline.validation.trust.classes import Classes, TrustError

CONFIG = InjectionConfig(mass_ratio=(0.8, 1.0))


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four binaries a task."""
    monkeypatch.setattr(injecting, "TASK", 4)


@pytest.fixture(scope="module")
def survey(client: Client, untrained_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey of a few bright stars, judged by networks that know nothing, and a list of its single stars."""
    folder = tmp_path_factory.mktemp("injection")
    none = MockDefects(**dict.fromkeys(MockDefects.__dataclass_fields__, 0))
    config = replace(MockConfig(), defects=none, nights=(1, 1), exposures=(1, 1), median_snr=75.0)
    truth = make_release(folder / "fits", stars=6, seed=4, config=config)
    ingest(client, folder / "fits", folder / "survey", "dr1")
    compute.run(client, folder / "survey", weights=untrained_weights, parameters=InferenceParameters(n_draws=1))
    single = truth.exposures["kind"] != "SB2"
    assert single.sum() >= 3
    Table({"obsid": truth.exposures["obsid"][single]}).write(folder / "survey" / "nulls.csv")
    return folder / "survey"


def test_injections_are_resumed_and_kept(client: Client, survey: Path) -> None:
    calls: list[tuple[str, int, int]] = []

    def note(*call: object) -> None:
        calls.append(call)  # type: ignore[arg-type]

    asked = {"config": CONFIG, "nulls": survey / "nulls.csv", "progress": note}
    first = inject(client, survey, count=4, **asked)
    assert calls == [("injections", 0, 1), ("injections", 1, 1)]
    calls.clear()
    # More of them cost what is new.
    second = inject(client, survey, count=8, **asked)
    assert calls == [("injections", 1, 2), ("injections", 2, 2)]
    before, stored = (stores.open_store(each.store, INJECTIONS).load() for each in (first, second))
    assert (before.sizes["injection"], stored.sizes["injection"]) == (4, 8)
    xr.testing.assert_equal(stored.isel(injection=slice(4)), before)
    assert (stored["snr_B"].values > 5.0).all()
    assert np.isfinite(stored["probability"].values).mean() > 0.8
    own = open_completeness(survey)
    assert own.sizes["source"] == 6
    assert json.dumps(first.to_json(), default=str)


def test_completeness_is_joined_to_stars() -> None:
    table = SOURCES.dataset({"obsid": np.array([7, 5, 9])}, 3)
    columns = {
        "obsid": np.array([5, 7, 8]),
        "completeness": np.array([0.5, 0.7, 0.8]),
        "injections": np.array([10, 20, 30]),
    }
    joined = with_completeness(table, COMPLETENESS.dataset(columns, 3))
    np.testing.assert_allclose(joined["completeness"].values, [0.7, 0.5, np.nan])
    assert joined["injections"].values.tolist() == [20, 10, 0]
    assert np.isnan(with_completeness(table, COMPLETENESS.dataset({}, 0))["completeness"].values).all()


def test_what_cannot_be_injected_is_refused(client: Client, survey: Path, tmp_path: Path) -> None:
    listed = {"nulls": survey / "nulls.csv"}
    with pytest.raises(TrustError, match=r"no presumed single star has an exposure of S/N above 500 .*at most"):
        inject(client, survey, real=RealConfig(minimum_snr=500.0), **listed)
    with pytest.raises(TrustError, match="no presumed single star"):
        inject(client, survey)  # one night shows no constant velocity
    with pytest.raises(TrustError, match="give 1 or more"):
        inject(client, survey, count=0)
    with pytest.raises(TrustError, match=r"the catalog's ensemble \(\w+\) is not in .*--weights"):
        inject(client, survey, weights=SHIPPED_WEIGHTS, **listed)
    with pytest.raises(CheckpointError, match="has no weights"):
        inject(client, survey, weights=tmp_path, **listed)
    with pytest.raises(TrustError, match="two or more"):
        RealConfig(most=1)


def test_what_was_found_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    columns = {
        "star1": np.array(["1", "2"], dtype=object),
        "separation": np.array([10.0, 200.0]),
        "snr_B": [20.0, 30.0],
    }
    found = measure(
        INJECTIONS.dataset({**columns, "teff1": [5000.0, 6500.0], "candidate": [False, True]}, 2), Classes()
    )
    place = Path("S")
    report = InjectionReport("dr1", "dr1", 2, 3, ("obsid 5: faint",), {}, 2, found, place, place)
    show_injection(report, None, console.out())
    out = capsys.readouterr().out
    assert "from 150 km/s on" in out
    assert "real spectra: 3 of 2 single stars of dr1; 1 could not be used: obsid 5: faint" in out


@pytest.mark.slow
def test_the_command_line(client: Client, survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def here(_where: object):  # type: ignore[no-untyped-def]
        yield client

    monkeypatch.setattr("twinlines.pipeline.cli.validate.connected", here)
    assert options.connected is not here
    command = ["validate", "injection", "--survey", str(survey), "--nulls", str(survey / "nulls.csv")]
    command += ["--count", "8", "--mass-ratio", "0.8"]
    result = CliRunner().invoke(cli.app, [*command, "--figure", str(tmp_path / "found.png"), "--json"])
    assert result.exit_code == 0, result.exception
    told = json.loads(result.stdout)
    assert told["injected"] == told["all"]["trials"] == 8
    assert (tmp_path / "found.png").exists()
    result = CliRunner().invoke(cli.app, [*command, "--figure", str(tmp_path / "found.pdf")])
    assert result.exit_code == 1
    assert "is not named .png" in str(result.exception)
