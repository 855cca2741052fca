"""The faults: what strikes while a command is at work, and what is damaged while nothing is.

Each is a function of the site and a random generator; it returns what it did, in words, or None if there was nothing to
strike.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import psutil

from tests.chaos.site import Site

Random = np.random.Generator
AtWork = Callable[[Site, Random, BaseProcess], str | None]
AtRest = Callable[[Site, Random], str | None]

TOKEN, STRUCK = "CHAOS_TOKEN", "CHAOS_STRUCK"
"""Variables of ``flaky.c``: the file that arms it, and the one in which it says where it struck."""
_ERRORS = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM, errno.ENOSPC)
_PARTS = ("/releases/", "/runs/", "/results/", "/done/", "/catalogs/", "/survey/", "/.lock", "CURRENT")


def _kill(processes: list[psutil.Process], random: Random, what: str) -> str | None:
    if not processes:
        return None
    victim = processes[int(random.integers(len(processes)))]
    with suppress(psutil.NoSuchProcess):
        victim.kill()
        return f"a {what} killed"
    return None


def kill_worker(site: Site, random: Random, client: BaseProcess) -> str | None:
    return _kill(site.workers(), random, "worker")


def kill_all_workers(site: Site, random: Random, client: BaseProcess) -> str | None:
    victims = site.workers()
    return "all workers killed" if [_kill([victim], random, "worker") for victim in victims] else None


def freeze_worker(site: Site, random: Random, client: BaseProcess) -> str | None:
    workers = site.workers()
    if not workers:
        return None
    with suppress(psutil.NoSuchProcess):
        workers[0].suspend()
        time.sleep(float(random.uniform(0.5, 3.0)))
        workers[0].resume()
        return "a worker frozen for a while"
    return None


def kill_reader(site: Site, random: Random, client: BaseProcess) -> str | None:
    return _kill(site.readers(), random, "reader of FITS files")


def kill_client(site: Site, random: Random, client: BaseProcess) -> str | None:
    return _signal(client, signal.SIGKILL)


def stop_client(site: Site, random: Random, client: BaseProcess) -> str | None:
    return _signal(client, (signal.SIGINT, signal.SIGTERM)[int(random.integers(2))])


def _signal(client: BaseProcess, number: signal.Signals) -> str | None:
    if not client.is_alive() or client.pid is None:
        return None
    os.kill(client.pid, number)
    return f"the client ended by {number.name}"


def kill_scheduler(site: Site, random: Random, client: BaseProcess) -> str | None:
    site.lose_cluster()
    return "the scheduler killed, with its workers"


def fail_a_call(site: Site, random: Random, client: BaseProcess) -> str | None:
    """Arm ``flaky.c``; whether it strikes is known at the end of the command only."""
    operation = ("open", "open", "read", "write", "fsync", "rename")[int(random.integers(6))]
    code = _ERRORS[int(random.integers(len(_ERRORS)))]
    part = _PARTS[int(random.integers(len(_PARTS)))]
    Path(os.environ[STRUCK]).unlink(missing_ok=True)
    token = Path(os.environ[TOKEN])
    aside = token.with_suffix(".new")
    aside.write_text(f"{operation} {code} {part}")
    aside.rename(token)
    return f"{errno.errorcode[code]} from {operation}() on a path with {part!r}"


def disarm() -> str | None:
    """Take back what :func:`fail_a_call` armed; returns where it struck, None if nowhere."""
    Path(os.environ[TOKEN]).unlink(missing_ok=True)
    struck = Path(os.environ[STRUCK])
    return struck.read_text().strip() if struck.exists() else None


def fill_disk(site: Site, random: Random, client: BaseProcess) -> str | None:
    if not os.path.ismount(site.disk):
        return None
    with suppress(OSError), (site.disk / "filler").open("ab", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    return "the disk filled"


def free_disk(site: Site) -> None:
    """Take back what :func:`fill_disk` did."""
    (site.disk / "filler").unlink(missing_ok=True)


AT_WORK: tuple[AtWork, ...] = (
    *(kill_worker, kill_all_workers, freeze_worker, kill_reader, kill_client, stop_client, kill_scheduler, fill_disk),
    *([fail_a_call] * 8),
)


def _pick(random: Random, folder: Path, pattern: str) -> Path | None:
    paths = sorted(path for path in folder.glob(pattern) if path.is_file())
    return paths[int(random.integers(len(paths)))] if paths else None


def _damage(path: Path | None, random: Random, site: Site) -> str | None:
    """Remove, empty, cut, or change a byte of a file, or write nonsense into it."""
    if path is None:
        return None
    data = bytearray(path.read_bytes())
    ways = ["removed", "emptied", "cut", "changed in a byte", "overwritten"]
    way = ways[int(random.integers(len(ways)))] if data else "removed"
    path.unlink()
    match way:
        case "emptied":
            path.touch()
        case "cut":
            path.write_bytes(data[: int(random.integers(len(data)))])
        case "changed in a byte":
            data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
            path.write_bytes(data)
        case "overwritten":
            path.write_bytes((b"[]", b"null", b'{"rows": "x"}', bytes(len(data)))[int(random.integers(4))])
    return f"{path.relative_to(site.survey)} {way}"


def damage_chunk_of_release(site: Site, random: Random) -> str | None:
    return _damage(_pick(random, site.survey, "releases/[!.]*/exposures.zarr/*/c/**/*"), random, site)


def damage_description_of_release(site: Site, random: Random) -> str | None:
    pattern = ("releases/[!.]*/exposures.zarr/**/zarr.json", "releases/[!.]*/*.json")[int(random.integers(2))]
    return _damage(_pick(random, site.survey, pattern), random, site)


def damage_result(site: Site, random: Random) -> str | None:
    return _damage(_pick(random, site.survey, "runs/*/results/*"), random, site)


def damage_marker(site: Site, random: Random) -> str | None:
    return _damage(_pick(random, site.survey, "runs/*/done/*"), random, site)


def damage_run_description(site: Site, random: Random) -> str | None:
    return _damage(_pick(random, site.survey, "runs/*/run.json"), random, site)


def damage_chunk_of_catalog(site: Site, random: Random) -> str | None:
    return _damage(_pick(random, site.survey, "catalogs/*/**/c/**/*"), random, site)


def damage_description_of_catalog(site: Site, random: Random) -> str | None:
    return _damage(_pick(random, site.survey, "catalogs/*/**/zarr.json"), random, site)


def damage_pointer(site: Site, random: Random) -> str | None:
    return _damage(_pick(random, site.survey, "CURRENT"), random, site)


def remove_folder(site: Site, random: Random) -> str | None:
    """Remove a whole folder, as a scratch purge does."""
    patterns = ("runs/*/results", "runs/*/done", "runs/*", "catalogs/*", "catalogs", "catalogs/*/[!z]*", "runs")
    folders = sorted(site.survey.glob(patterns[int(random.integers(len(patterns)))]))
    if not folders:
        return None
    victim = folders[int(random.integers(len(folders)))]
    shutil.rmtree(victim)
    return f"{victim.relative_to(site.survey)} removed"


def leave_rubbish(site: Site, random: Random) -> str | None:
    """What a crash, an editor or a file system may leave behind."""
    places = (
        *("catalogs/.x.tmp/part", "catalogs/notes.txt", "runs/.nfs0001", ".lock.holder", ".lock"),
        *("releases/.dr9.work/files.jsonl", "releases/.dr1.work/scan/run.json"),
        "releases/.dr1.partial/exposures.zarr/zarr.json",
    )
    path = site.survey / places[int(random.integers(len(places)))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"rubbish")
    return f"{path.relative_to(site.survey)} left behind"


AT_REST: tuple[AtRest, ...] = (
    *(damage_chunk_of_release, damage_chunk_of_release, damage_description_of_release, damage_result, damage_marker),
    *(damage_run_description, damage_chunk_of_catalog, damage_chunk_of_catalog, damage_description_of_catalog),
    *(damage_pointer, remove_folder, leave_rubbish),
)
