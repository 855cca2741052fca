"""What chaos strikes: a small survey of two releases, the cluster that computes it, and the client that gives commands.

All processes are real and die really. Clients and clusters are forked from this process, which has imported everything
and started no thread, so that hundreds of them take minutes. The inference is a toy; everything else is the survey's.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed import LocalCluster

from twinlines.cluster.environment import NANNY_CONFIG
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Address
from twinlines.models import checkpoint
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.lamost import reader
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.spectra import inference
from twinlines.pipeline.survey.compute import run
from twinlines.pipeline.survey.status import status
from twinlines.pipeline.testing.exposures import random_arm, random_file, with_arm
from twinlines.pipeline.testing.survey import ToyInference, ToyParameters, write_weights

RELEASES = ("dr1", "dr2")
SMALL = replace(EXPOSURES, chunk_rows=8, shard_rows=16)
"""The exposures' schema with small shards, so that few rows make many files."""
SHARD_ROWS = 10
WORKERS = 2
PATIENCE = 150.0
"""Seconds after which a command hangs; undisturbed, it takes three."""

_QUICK = {
    **NANNY_CONFIG,
    "distributed.comm.timeouts.connect": "3s",
    "distributed.comm.retry.count": 1,
    "distributed.scheduler.no-workers-timeout": "60s",
}
_fork = multiprocessing.get_context("fork")
assert checkpoint, inference  # imported before any fork


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    ok: bool
    """Whether it did what was asked."""
    words: str
    """Its error: one line for people if it is of a kind that commands print so, else a traceback; empty if it was
    killed."""
    hung: bool = False
    """Whether it had to be killed after :data:`PATIENCE`."""


class Site:
    """Folders and processes of one session of chaos."""

    def __init__(self, root: Path, disk: Path) -> None:
        self.survey = disk / "survey"
        """The survey; on a small disk of its own, which may be filled."""
        self.disk = disk
        self.fits, self.weights = root / "fits", write_weights(root / "weights")
        self.reference = root / "reference"
        """A survey like it, of a quiet run; damage is mended from its releases."""
        self._answer, self._address = root / "answer.json", root / "address"
        self._cluster: BaseProcess | None = None
        _write_files(self.fits)

    # The cluster.

    def cluster(self) -> BaseProcess:
        """The process of the scheduler, the parent of its workers; started if there is none."""
        if self._cluster is None or not self._cluster.is_alive():
            self.lose_cluster()
            self._address.unlink(missing_ok=True)
            self._cluster = _fork.Process(target=_serve, args=(self._address,))
            self._cluster.start()
            until = time.monotonic() + 60
            while not self._address.exists():
                if time.monotonic() > until:
                    raise RuntimeError("no cluster came within 60 s")
                time.sleep(0.05)
        return self._cluster

    def lose_cluster(self) -> None:
        """Kill the scheduler with all its workers."""
        if self._cluster is not None and self._cluster.pid is not None:
            children = psutil.Process(self._cluster.pid).children(recursive=True) if self._cluster.is_alive() else []
            with suppress(ProcessLookupError):
                os.killpg(self._cluster.pid, signal.SIGKILL)
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            self._cluster.join()
        self._cluster = None

    def workers(self) -> list[psutil.Process]:
        """Processes of the workers."""
        return [child for child in self._children() if "spawn_main" in " ".join(_command(child))]

    def readers(self) -> list[psutil.Process]:
        """Processes that read FITS files for workers."""
        return [child for child in self._children() if "reader" in " ".join(_command(child))]

    def _children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.cluster().pid).children(recursive=True)
        return []

    # Commands.

    def command(self, survey: Path) -> BaseProcess:
        """Start what a person would type: ingest the releases that are missing, and run."""
        self.cluster()
        self._answer.unlink(missing_ok=True)
        arguments = (survey, self.fits, self.weights, self._address.read_text(), self._answer)
        client = _fork.Process(target=_command_line, args=arguments)
        client.start()
        return client

    def outcome(self, client: BaseProcess) -> Outcome:
        """Wait for a command, and see how it ended."""
        client.join(PATIENCE)
        if client.is_alive():
            client.kill()
            client.join()
            return Outcome(False, f"the command did not end within {PATIENCE:g} s", hung=True)
        if not self._answer.exists():
            return Outcome(False, "")
        about = json.loads(self._answer.read_text())
        return Outcome(about["ok"], about["words"])

    def do(self, survey: Path) -> Outcome:
        """Give the command, undisturbed."""
        return self.outcome(self.command(survey))

    def verify(self) -> tuple[str, ...]:
        """What ``twinlines status --verify`` says of damage."""
        return status(self.survey, verify=True).damaged or ()

    # The survey's state.

    def reset(self, state: str) -> None:
        """Make the survey anew: "nothing", "ingested" or "done"."""
        shutil.rmtree(self.survey, ignore_errors=True)
        self.survey.mkdir()
        if state != "nothing":
            shutil.copytree(self.reference / "releases", self.survey / "releases")
        if state == "done":
            for name in ("runs", "catalogs"):
                shutil.copytree(self.reference / name, self.survey / name)
            shutil.copy(self.reference / "CURRENT", self.survey)


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _serve(address: Path) -> None:
    """Be the scheduler, with nannies of workers."""
    os.setsid()
    with (
        dask.config.set(_QUICK),
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", silence_logs=100
        ) as cluster,
    ):
        aside = address.with_suffix(".new")
        aside.write_text(cluster.scheduler_address)
        aside.rename(address)
        while os.getppid() != 1:
            time.sleep(1)


def _command_line(survey: Path, fits: Path, weights: Path, address: str, answer: Path) -> None:
    """Be the client; errors are judged as :mod:`twinlines.pipeline.cli.main` does."""
    ok, words = False, ""
    # As a command that is stopped by a system that goes down: what is running is cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with dask.config.set(_QUICK), launch(Address(address=address)) as client:
            for name in RELEASES:
                if not (survey / "releases" / name).exists():
                    report = ingest(client, fits / name, survey, name, schema=SMALL, files_per_task=5)
                    if report.quarantined:
                        words += f"{report.quarantined[0]}; "
            done = run(
                client,
                survey,
                weights=weights,
                parameters=ToyParameters(pause=0.1),
                shard_rows=SHARD_ROWS,
                loader=ToyInference.load,
            )
            ok = done.complete
            words += "; ".join(failure.error for failure in done.failed)
    except KeyboardInterrupt:
        words = "stopped"
    except Exception as error:
        expected = isinstance(error, OSError | ImportError) or type(error).__module__.startswith("twinlines.")
        words = str(error) if expected else "TRACEBACK " + "".join(traceback.format_exception(error))
    answer.write_text(json.dumps({"ok": ok, "words": words}))


def _write_files(folder: Path) -> None:
    """Write the FITS files: dr2 has six new ones, and three of dr1's with another exposure."""
    for name in RELEASES:
        (folder / name).mkdir(parents=True)
    for seed in range(24):
        reader.write(folder / "dr1" / f"{seed:02d}.fits", random_file(seed))
    for seed in range(24, 30):
        reader.write(folder / "dr2" / f"{seed:02d}.fits", random_file(seed))
    for seed in range(0, 9, 3):
        changed = with_arm(random_file(seed), 1, "B", random_arm(99 + seed, "B"))
        reader.write(folder / "dr2" / f"{seed:02d}.fits", changed)


def catalog(survey: Path) -> dict[str, Any]:
    """All of the current catalog that must be the same: its files, and what it says of itself but for its making."""
    folder = survey / "catalogs" / (survey / "CURRENT").read_text().strip()
    files: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path != folder / "zarr.json"
    }
    about = json.loads((folder / "zarr.json").read_bytes())
    for name in ("created", "number"):
        about["attributes"].pop(name, None)
    return {**files, "zarr.json": about}


def releases(survey: Path) -> dict[str, bytes]:
    """All files of the releases but for those that say when they were made, and of whose loss no number suffers."""
    folder, aside = survey / "releases", ("release.json", "report.json")
    paths = (path for path in folder.glob("[!.]*/**/*") if path.is_file() and path.name not in aside)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
