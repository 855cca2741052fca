"""A catalog against exposures whose truth is known: rates by group are those counted by hand; nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from typer.testing import CliRunner

from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.cli import main as cli
from twinlines.pipeline.testing.trust import VerdictConfig, make_verdicts
from twinlines.pipeline.testing.velocities import write_catalog
from twinlines.pipeline.validation.known import known
from twinlines.pipeline.validation.observed import ValidationError

KINDS = np.array(["cool", "hot", "late, odd"])


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known") / "survey"
    folder.mkdir()
    made = make_verdicts(3, VerdictConfig(singles=120, binaries=60, repeated=20, exposures=(1, 3)))
    write_catalog(folder, "dr-0123456789abcdef.zarr", made.catalog)
    return folder


@pytest.fixture(scope="module")
def truth(survey: Path) -> Table:
    """A table of every exposure, whose truth has nothing to do with the verdicts."""
    rows = catalogs.open(survey)
    rng = np.random.default_rng(1)
    count = rows.sizes["exposure"]
    return Table(
        {
            "obsid": rows["obsid"].values,
            "lmjm": rows["lmjm"].values,
            "star2": np.where(rng.random(count) < 0.4, "some star", ""),
            "kind": KINDS[rng.integers(0, 3, count)],
            "snr": rng.choice([10.0, 40.0], count),
        }
    )


def test_rates_are_those_counted_by_hand(survey: Path, truth: Table, tmp_path: Path) -> None:
    path = tmp_path / "truth.ecsv"
    shuffled = truth[np.random.default_rng(2).permutation(len(truth))]
    shuffled.write(path)
    report = known(survey, path, two="star2", by=("kind", "snr"))
    rows = catalogs.open(survey)
    two = np.asarray(truth["star2"]) != ""
    median = rows.sb2.probability("J").values
    chosen = rows.sb2.is_candidate(rule="joint")
    assert sum(one.exposures for one in report.groups) == len(truth)
    assert len(report.groups) == 12
    assert [one.two for one in report.groups] == sorted(one.two for one in report.groups)
    for one in report.groups:
        mine = (two == one.two) & (truth["kind"] == one.values[0]) & (truth["snr"] == float(one.values[1]))
        assert one.exposures == mine.sum() > 0
        assert one.missing == 0
        assert one.unjudged == np.isnan(median[mine]).sum()
        judged = np.isfinite(median[mine]).sum()
        assert (one.called["J"].count, one.called["J"].trials) == ((median[mine] > 0.5).sum(), judged)
        assert one.unfamiliar.trials == mine.sum()
        assert one.called["joint"].count == chosen[mine].sum()
        assert one.called["J"].low <= one.called["J"].value <= one.called["J"].high


def test_a_value_that_is_empty_is_one_too(survey: Path, truth: Table, tmp_path: Path) -> None:
    table, path = truth.copy(), tmp_path / "truth.ecsv"
    odd = np.asarray(table["kind"]) == KINDS[2]
    table["kind"][odd] = ""
    table.write(path)
    report = known(survey, path, two="star2", by=("snr", "kind"))
    assert {one.values[1] for one in report.groups} == {"", *KINDS[:2]}
    assert {len(one.values) for one in report.groups} == {2}
    assert sum(one.exposures for one in report.groups if not one.values[1]) == odd.sum()
    command = ["validate", "known", str(path), "--survey", str(survey), "--two", "star2", "--by", "snr,kind"]
    shown = CliRunner().invoke(cli.app, command)
    assert shown.exit_code == 0, shown.output
    assert " - " in shown.output


def test_exposures_that_the_catalog_lacks_are_told(survey: Path, truth: Table, tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    more = truth.copy()
    more.add_row([999_999_999, 1, "x", "cool", 10.0])
    more.write(path)
    report = known(survey, path, two="star2")
    assert {one.two: one.missing for one in report.groups} == {False: 0, True: 1}
    output = CliRunner().invoke(cli.app, ["validate", "known", str(path), "--survey", str(survey), "--two", "star2"])
    assert output.exit_code == 0
    assert "of two stars, found" in output.output
    command = ["validate", "known", str(path), "--survey", str(survey), "--two", "star2", "--by", "kind", "--json"]
    told = json.loads(CliRunner().invoke(cli.app, command).output)
    assert {tuple(one["values"]) for one in told["groups"]} == {(kind,) for kind in KINDS}


def test_numbers_say_what_shows_two_stars(survey: Path, truth: Table, tmp_path: Path) -> None:
    path = tmp_path / "truth.fits"
    truth["binary"] = (np.asarray(truth["star2"]) != "").astype(np.int16)
    truth.write(path)
    assert known(survey, path).groups == known(survey, path, two="star2").groups


def test_an_obsid_stands_for_all_its_exposures(survey: Path, truth: Table, tmp_path: Path) -> None:
    obsid, first, counts = np.unique(truth["obsid"], return_index=True, return_counts=True)
    path = tmp_path / "truth.ecsv"
    truth["obsid", "star2"][first].write(path)
    report = known(survey, path, two="star2")
    assert sum(one.unfamiliar.trials for one in report.groups) == counts.sum()
    assert sum(one.exposures for one in report.groups) == len(obsid)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.remove_column("obsid"), "obsid"),
        (lambda table: table.remove_column("star2"), "no column 'star2'"),
        (lambda table: table.add_row(table[0]), "stands in rows 0 and"),
        (lambda table: table.replace_column("obsid", table["obsid"] + 10**12), "none of its"),
        (lambda table: table.remove_rows(slice(None)), "it has no row"),
        (lambda table: table.replace_column("kind", np.ones((len(table), 2))), "several values"),
        (lambda table: table.replace_column("kind", np.arange(len(table)) * 1.0), None),
    ],
)
def test_tables_that_cannot_be_used(survey: Path, truth: Table, tmp_path: Path, change, told) -> None:  # type: ignore[no-untyped-def]
    table, path = truth.copy(), tmp_path / "truth.ecsv"
    change(table)
    table.write(path)
    if told is None:
        assert len(known(survey, path, two="star2", by=("kind",)).groups) == len(table)
        return
    with pytest.raises(ValidationError, match=told):
        known(survey, path, two="star2", by=("kind",))
