"""The command line: help, errors, exit status, and the whole chain on a few files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twinlines.cluster import site
from twinlines.models import checkpoint
from twinlines.models.network import Network, NetworkConfig
from twinlines.pipeline.arms import ARMS
from twinlines.pipeline.cli import main as cli
from twinlines.pipeline.cli.options import QUARANTINED
from twinlines.pipeline.lamost import reader
from twinlines.pipeline.storage.stores import StoreError
from twinlines.pipeline.survey import status as surveystatus
from twinlines.pipeline.testing.exposures import random_arm, random_file, with_arm

COMMANDS = [
    ("demo",), ("mock",), ("ingest",), ("run",), ("status",), ("audit",), ("population",), ("synthesize",), ("train",),
    ("evaluate",), ("tracks", "import"), ("tracks", "show"),
    ("catalog", "candidates"), ("catalog", "cone"), ("catalog", "source"), ("catalog", "export"),
    ("catalog", "diff"), ("zeropoints",), ("binaries", "fit"), ("binaries", "list"), ("binaries", "export"),
    ("binaries", "orbits"), ("catalog", "sources"),
    ("binaries", "sources"), ("validate", "crossmatch"), ("validate", "kebc"), ("validate", "cmd"),
    ("validate", "summary"),
    ("calibrate",), ("validate", "nulls"), ("validate", "injection"),
    ("report",), ("catalog", "vetted"),
    ("library", "import"), ("library", "show"), ("cluster", "show"), ("cluster", "check"),
]  # fmt: skip


MAIN = "from twinlines.pipeline.cli.main import main; main()"


def twinlines(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    assert f"Example: twinlines {' '.join(command)}" in result.output


@pytest.mark.parametrize(
    "arguments", [["run", "--sruvey", "S"], ["ingest"], ["fly"], ["mock", "out", "--layout", "columns"]]
)
def test_a_wrong_command_line_is_status_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli.app, arguments).exit_code == 2


def test_the_version_is_said() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"twinlines {version('twinlines')}\n")


def test_files_that_contradict_each_other_are_status_3(tmp_path: Path) -> None:
    file = random_file(1, exposures=1)
    for place, each in (("a", file), ("b", with_arm(file, 0, "B", random_arm(99)))):
        (tmp_path / "fits" / place).mkdir(parents=True)
        reader.write(tmp_path / "fits" / place / reader.file_name(file), each)
    done = twinlines("ingest", tmp_path / "fits", "--survey", tmp_path / "s", "--release", "dr7", "--workers", "1")
    assert done.returncode == QUARANTINED, done.stderr
    assert "1 exposures, 1 of 2 files" in done.stdout
    assert f"conflict: {file.obsid}, " in done.stdout


def test_from_files_to_a_table(tmp_path: Path, untrained_weights: Path) -> None:
    fits, survey, table = tmp_path / "fits", tmp_path / "survey", tmp_path / "catalog.fits"
    fits.mkdir()
    for seed in (1, 2):
        file = random_file(seed, exposures=2)
        reader.write(fits / reader.file_name(replace(file, fiberid=seed)), file)
    (fits / "broken.fits").write_text("SIMPLE as that")

    ingested = twinlines("ingest", fits, "--survey", survey, "--release", "dr7", "--workers", "1", "--json")
    assert ingested.returncode == QUARANTINED, ingested.stderr
    assert json.loads(ingested.stdout)["rows"] == 4
    assert "broken.fits" in ingested.stdout

    ran = twinlines(
        "run", "--survey", survey, "--weights", untrained_weights, "--draws", "2", "--workers", "1", "--json"
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["rows_computed"] == 4

    status = CliRunner().invoke(cli.app, ["status", "--survey", str(survey), "--json"])
    assert json.loads(status.output)["releases"][0]["pending"] == 0
    candidates = CliRunner().invoke(cli.app, ["catalog", "candidates", "--survey", str(survey), "--json"])
    assert json.loads(candidates.output) == []
    source = CliRunner().invoke(cli.app, ["catalog", "source", "700000001", "--survey", str(survey), "--json"])
    answer = json.loads(source.output)
    assert answer["binary"] is None  # nothing was fitted
    rows = answer["exposures"]
    assert [row["obsid"] for row in rows] == [700000001] * 2
    assert rows[0]["rv_abs_B"] is None
    assert CliRunner().invoke(cli.app, ["catalog", "export", "--survey", str(survey), str(table)]).exit_code == 0
    assert table.exists()


def test_a_training_set_from_the_command_line(tmp_path: Path) -> None:
    config, out = tmp_path / "set.toml", tmp_path / "pairs.zarr"
    config.write_text("[priors]\nvsini1 = 'survey_vsini'\n[extras.cool_giants]\nfraction = 0.2\n")
    drawn = CliRunner().invoke(cli.app, ["population", "--draws", "300", "--config", str(config), "--json"])
    assert {name: sum(counts.values()) for name, counts in json.loads(drawn.output).items()} == {
        "table1": 300,
        "cool_giant": 300,
    }
    arguments = ("synthesize", "--pairs", "40", "--out", out, "--config", config, "--workers", "1")
    made = twinlines(*arguments, "--report", tmp_path / "report", "--json")
    assert made.returncode == 0, made.stderr
    summary = json.loads(made.stdout)
    assert (summary["n_pairs"], summary["computed"], summary["complete"]) == (40, 1, True)
    assert all(Path(figure).exists() for figure in summary["figures"])
    again = CliRunner().invoke(cli.app, [str(one) for one in arguments])
    assert again.exit_code == 0
    assert "0 shards made now, 1 before" in again.output
    with pytest.raises(StoreError, match="is another training set"):
        CliRunner().invoke(cli.app, [*map(str, arguments), "--seed", "5"], catch_exceptions=False)
    config.write_text("[priors]\nvsini1 = 'survey_vsin'\n")
    wrong = twinlines(*arguments)
    assert wrong.returncode == 1
    assert "did you mean 'survey_vsini'?" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_expected_errors_are_one_line_and_status_1(tmp_path: Path) -> None:
    missing = twinlines("catalog", "candidates", "--survey", tmp_path / "nowhere")
    assert missing.returncode == 1
    assert "there is no survey at" in missing.stderr
    assert "Traceback" not in missing.stderr
    unknown = twinlines("status", "--survey", tmp_path / "nowhere")
    assert unknown.returncode == 1
    assert "nowhere" in unknown.stderr
    few = twinlines("mock", tmp_path / "mock", "--stars", "1", "--seed", "0")
    assert few.returncode == 1
    assert "add stars" in few.stderr
    assert "Traceback" not in few.stderr
    assert not (tmp_path / "mock").exists()
    profile = twinlines("ingest", tmp_path, "--survey", tmp_path / "s", "--release", "a", "--cluster", "moon")
    assert profile.returncode == 1
    assert "moon" in profile.stderr
    assert "Traceback" not in profile.stderr


def test_weights_of_another_architecture_end_a_run_before_it_starts(tmp_path: Path) -> None:
    fits, survey, other = tmp_path / "fits", tmp_path / "survey", tmp_path / "weights"
    fits.mkdir()
    reader.write(fits / "a.fits", random_file(1, exposures=1))
    assert twinlines("ingest", fits, "--survey", survey, "--release", "a", "--workers", "1").returncode == 0
    header = checkpoint.Header(member=1, seed=0, pairs="none")
    path = other / f"{header.stem}.safetensors"
    other.mkdir()
    checkpoint.save(path, Network(NetworkConfig((ARMS["B"].n_pixels, ARMS["R"].n_pixels))), header)
    tensors, about = checkpoint.unpack(path)
    about["network"]["architecture"] = "transformer-999"
    path.write_bytes(checkpoint.pack(tensors, about))
    ran = twinlines("run", "--survey", survey, "--weights", other, "--workers", "1")
    assert ran.returncode == 1
    assert "transformer-999" in ran.stderr
    assert "two-arm-lenet-1" in ran.stderr
    assert "worker" not in ran.stderr  # said before there is any
    assert "Traceback" not in ran.stderr
    none = twinlines("run", "--survey", survey, "--weights", tmp_path / "none", "--workers", "1")
    assert none.returncode == 1
    assert str(tmp_path / "none") in none.stderr


@pytest.mark.parametrize(("command", "kept"), [("run", True), ("status", False)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_command_says_by_what_and_what_is_kept(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    kept: bool,
    number: signal.Signals,
) -> None:
    def stop(*_: object, **__: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(surveystatus, "status", stop)
    monkeypatch.setattr(site, "parse", stop)
    monkeypatch.setattr(sys, "argv", ["twinlines", command, "--survey", "s"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 128 + number
    told = capsys.readouterr().err
    assert "twinlines: stopped" in told
    assert ("goes on from there" in told) == kept


def test_a_job_s_end_leaves_no_temporary_folder_and_no_result_behind(tmp_path: Path) -> None:
    scratch, out = tmp_path / "scratch", tmp_path / "pairs.zarr"
    scratch.mkdir()
    command = ["synthesize", "--pairs", "9000", "--out", str(out), "--workers", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *command],
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("synthesize: ") for line in process.stderr)
        assert list(scratch.iterdir())
        process.send_signal(signal.SIGTERM)
        told = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert "goes on from there" in told
    assert "Traceback" not in told
    assert not list(scratch.iterdir())
    assert not out.exists()
