"""Random faults upon a survey, until enough have struck; at the end of each round the catalog is that of a quiet run.

    python -m tests.chaos [--faults 100] [--minutes 60] [--seed 1] [--folder DIR]

Each round sets the survey back to some state, damages it or gives the command and strikes while it is at work, once or
several times; then the same command is given again, in peace. It must succeed, and the catalog be bit for bit that of a
quiet run; or it must name the damage, and what the message says must mend it: files restored from a copy, or what
cannot be restored made again. ``twinlines status --verify`` must say the same. As root, the survey lies on a small disk
of its own, which is filled at times; with gcc, single calls of the system fail (``flaky.c``).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.chaos import faults
from tests.chaos.site import RELEASES, Outcome, Site, catalog, releases

_DISK = "192m"


class FindingError(AssertionError):
    """Something that must not be."""


class Chaos:
    """Rounds of faults, and what they led to."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.random = np.random.default_rng(seed)
        self.struck: list[str] = []
        self.mended = 0
        first = site.do(site.reference)
        if not first.ok:
            raise FindingError(f"not even the quiet run is whole: {first}")
        self.catalog, self.releases = catalog(site.reference), releases(site.reference)

    def round(self) -> list[str]:
        """Strike, and look what comes of it; returns what struck."""
        site, random = self.site, self.random
        state = ("nothing", "ingested", "done", "done")[int(random.integers(4))]
        site.reset(state)
        log = [f"({state})"]
        try:
            if state != "nothing":
                log += self._at_rest()
            if state != "done" or random.random() < 0.5:
                for _ in range(int(random.integers(1, 4))):
                    log += self._at_work()
            if len(log) > 1:
                self._aftermath()
        except FindingError as error:
            raise FindingError(f"{'; '.join(log)}\n  -> {error}") from error
        self.struck += log[1:]
        return log

    def _at_rest(self) -> list[str]:
        strikes = [
            faults.AT_REST[n] for n in self.random.integers(len(faults.AT_REST), size=self.random.integers(1, 4))
        ]
        return [words for strike in strikes if (words := strike(self.site, self.random))]

    def _at_work(self) -> list[str]:
        """Give the command, and strike while it is at work."""
        strike = faults.AT_WORK[int(self.random.integers(len(faults.AT_WORK)))]
        client = self.site.command(self.site.survey)
        client.join(float(self.random.uniform(0.0, 4.0)))
        words = strike(self.site, self.random, client)
        outcome = self.site.outcome(client)
        hit = faults.disarm()
        faults.free_disk(self.site)
        if strike is faults.fail_a_call:
            words = f"{words}: {hit}" if hit else None
        if outcome.hung:
            raise FindingError(f"{words}: the command hangs")
        if outcome.words.startswith("TRACEBACK"):
            raise FindingError(f"{words}: an error that is no message: {outcome.words}")
        return [words] if words else []

    def _aftermath(self) -> None:
        outcome = self.site.do(self.site.survey)
        for _ in range(3):  # an error names one thing at a time
            if not outcome.ok:
                self._mend(outcome)
                outcome = self.site.do(self.site.survey)
        if not outcome.ok:
            raise FindingError(f"mended, but {outcome.words}")
        if catalog(self.site.survey) != self.catalog:
            different = _differences(catalog(self.site.survey), self.catalog)
            raise FindingError(f"another catalog, without a word: {different}")
        named = self.site.verify()
        if named:
            self._mend(Outcome(False, "; ".join(named)))
            if not (outcome := self.site.do(self.site.survey)).ok:
                raise FindingError(f"mended, but {outcome.words}")
            named = self.site.verify()
        if named:
            raise FindingError(f"mended, but --verify says {named}")
        if different := _differences(releases(self.site.survey), self.releases):
            raise FindingError(f"a release was damaged, and --verify says nothing: {different[:10]}")
        if not self.site.do(self.site.survey).ok or catalog(self.site.survey) != self.catalog:
            raise FindingError("the command, given once more, does not find all done")

    def _mend(self, outcome: Outcome) -> None:
        """Do what the message says: restore the releases that it names from a copy, or ingest them again.

        A run that holds something else is removed, if the message says so.
        """
        for path in (self.site.survey / "runs").glob("*"):
            if f"{path} holds results of another recipe" in outcome.words:
                shutil.rmtree(path)
                self.mended += 1
                return
        names = [name for name in RELEASES if f"{self.site.survey}/releases/{name}" in outcome.words]
        if not names or outcome.words.startswith("TRACEBACK"):
            raise FindingError(f"the command fails in peace, and names no damage to mend: {outcome.words or 'killed'}")
        again = self.random.random() < 0.5
        for name in RELEASES[RELEASES.index(names[0]) :]:
            shutil.rmtree(self.site.survey / "releases" / name, ignore_errors=True)
            if not again:
                shutil.copytree(self.site.reference / "releases" / name, self.site.survey / "releases" / name)
        self.mended += 1


def _differences(ours: dict[str, object], theirs: dict[str, object]) -> list[str]:
    return sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))


def _kind(words: str) -> str:
    """Which kind of fault its words tell of."""
    place, _, rest = words.partition(" ")
    if " from " in words:
        return f"{place} from a call of the system"
    return f"{place.split('/')[0]} {rest}" if "/" in place else words


@contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    """A small disk, where the kernel lets us mount one; else a folder, which is not filled."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(disk)], capture_output=True)
    try:
        yield disk
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(disk)], check=True)


def _arm(folder: Path) -> None:
    """Compile ``flaky.c``, and start this program anew with it."""
    library = folder / "flaky.so"
    source = Path(__file__).with_name("flaky.c")
    compiler = shutil.which("gcc")
    if compiler is None:
        print("no gcc here: no call of the system will fail")
    else:
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        os.environ["LD_PRELOAD"] = str(library)
    os.environ[faults.TOKEN], os.environ[faults.STRUCK] = str(folder / "token"), str(folder / "struck")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "tests.chaos", *sys.argv[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--go-on", action="store_true", help="after a finding, too")
    options = parser.parse_args()
    if faults.TOKEN not in os.environ:
        _arm(Path(tempfile.mkdtemp(prefix="chaos-", dir=options.folder)))
    root = Path(os.environ[faults.TOKEN]).parent
    began, findings, rounds = time.monotonic(), [], 0
    with _disk(root) as disk:
        site = Site(root, disk)
        try:
            chaos = Chaos(site, options.seed)
            while len(chaos.struck) < options.faults and time.monotonic() - began < 60 * options.minutes:
                rounds += 1
                try:
                    log = chaos.round()
                    print(f"{rounds:4d} {len(chaos.struck):4d} faults: {'; '.join(log)}", flush=True)
                except FindingError as error:
                    findings.append(str(error))
                    print(f"{rounds:4d} FINDING {error}", flush=True)
                    if not options.go_on:
                        break
        finally:
            site.lose_cluster()
    shutil.rmtree(root, ignore_errors=True)
    kinds = Counter(_kind(words) for words in chaos.struck)
    result = {
        "name": "chaos",
        "faults": len(chaos.struck),
        "rounds": rounds,
        "mended": chaos.mended,
        "findings": len(findings),
        "seed": options.seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "kinds": dict(kinds.most_common()),
    }
    print(json.dumps(result))
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
