"""What workers say they are, and that one that differs from the client does no work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client, Scheduler

from twinlines.cluster import inventory
from twinlines.cluster.errors import LaunchError
from twinlines.cluster.inventory import HOUSES, Report, admitting, code_digest, collect, describe, expectation, mismatch
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Address, Local
from twinlines.cluster.workers import workers_of
from twinlines.models.precision import has_bfloat16

ROOT = Path(__file__).resolve().parents[2]
HERE = Report("node1", {"python": "3.11", "torch": "2.13.0", "numpy": "2.4.6"}, "cpu", "x86_64", bfloat16=True)


def test_workers_say_what_they_are(client: Client) -> None:
    reports = collect(client, has_bfloat16)
    assert set(reports) == set(workers_of(client))
    mine = describe(has_bfloat16)
    for report in reports.values():
        assert report.versions == mine.versions
        assert (report.device, report.bfloat16, report.threads) == (mine.device, has_bfloat16("cpu"), 1)
        assert report.memory > 2**20
    assert mine.versions["torch"][0].isdigit()
    assert "+" not in mine.versions["torch"]
    assert "missing" not in mine.versions.values()


def test_a_worker_that_dies_while_it_is_asked_is_left_out_and_if_all_die_others_are_asked(tmp_path: Path) -> None:
    def probe(device: str) -> bool:
        """Kills the first processes that ask; the second time only, once all are new."""
        for turn in turns:
            with suppress(FileExistsError):
                (tmp_path / turn).touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return True

    with launch(Local(n_workers=2)) as client:
        turns = ["one"]
        assert len(collect(client, probe)) == 1
        client.wait_for_workers(2, timeout=60)
        turns = ["two", "three"]
        reports = collect(client, probe)
        assert 1 <= len(reports) <= 2
        assert {report.bfloat16 for report in reports.values()} == {True}


def test_a_description_imports_nothing_unless_hardware_is_asked_for() -> None:
    code = "import sys; from twinlines.cluster.inventory import describe; describe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (HERE, None),
        (replace(HERE, host="node2", device_name="other"), None),
        (
            replace(HERE, versions={**HERE.versions, "numpy": "2.3.0"}),
            "the worker tls://w:1 on node1 has numpy 2.3.0, and the client 2.4.6; .*install the same version on both",
        ),
        (replace(HERE, versions={"python": "3.11", "numpy": "2.4.6"}), "has torch missing, and the client 2.13.0"),
        (replace(HERE, bfloat16=False), "computes on cpu, float32, others on cpu, bfloat16; .*mixed-hardware"),
        (replace(HERE, device="cuda"), "computes on cuda, bfloat16, others on cpu, bfloat16"),
    ],
)
def test_a_mismatch_names_worker_package_and_both_versions(there: Report, message: str | None) -> None:
    found = mismatch("tls://w:1", there, HERE)
    if message is None:
        assert found is None
    else:
        with pytest.raises(LaunchError, match=message):
            raise LaunchError(found)


def test_mixed_hardware_has_to_be_said() -> None:
    here = describe()
    slow, fast = replace(here, device="cpu", bfloat16=False), replace(here, device="cpu", bfloat16=True)
    assert mismatch("w", fast, expectation([slow, fast], mixed_hardware=False)) is not None
    assert mismatch("w", fast, expectation([slow, fast], mixed_hardware=True)) is None


@contextmanager
def _other_numpy() -> Iterator[None]:
    """This client has another numpy than its workers, as far as it knows."""
    real = dict(inventory.versions())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inventory, "versions", lambda: {**real, "numpy": "1.0.0"})
        yield


def test_a_worker_with_another_version_is_refused_before_work_and_keeps_running(client: Client) -> None:
    with (
        _other_numpy(),
        pytest.raises(LaunchError, match=r"the worker tcp://.* has numpy .*, and the client 1\.0\.0"),
        launch(Address(client.scheduler.address)),
    ):
        pytest.fail("the context was entered")
    assert client.submit(sum, [1, 2]).result() == 3


def test_a_worker_that_joins_later_with_another_version_is_ended(tmp_path: Path) -> None:
    # Python takes a package's version from the first folder that has its metadata; the code stays the same.
    metadata = tmp_path / "numpy-0.0.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n")
    told: list[str] = []
    with launch(Local(n_workers=1)) as client:
        first = set(workers_of(client))
        with admitting(client, probe=None, mixed_hardware=False, tell=told.append):
            worker = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address, "--no-nanny"],
                env={**os.environ, "PYTHONPATH": str(tmp_path)},
                stderr=subprocess.DEVNULL,
            )
            assert worker.wait(timeout=300) == 0
            assert set(workers_of(client)) == first
            assert client.submit(sum, [1, 2]).result() == 3
    assert len(told) == 1
    assert "has numpy 0.0.1, and the client" in told[0]


def test_clients_that_share_a_scheduler_end_in_any_order(client: Client) -> None:
    def overlap() -> None:
        with ExitStack() as first, launch(Address(client.scheduler.address)):
            first.enter_context(launch(Address(client.scheduler.address)))
            assert sum("twinlines-admit" in name for name in client.run_on_scheduler(_plugins)) == 2

    # In a context of its own: Dask's current client is a closed one after this.
    copy_context().run(overlap)
    assert not any("twinlines-admit" in name for name in client.run_on_scheduler(_plugins))


def _plugins(dask_scheduler: Scheduler) -> list[str]:
    return list(dask_scheduler.worker_plugins)


@pytest.fixture
def checkout(tmp_path: Path) -> dict[str, Path]:
    """A copy of the modules, in the checkout's folders."""
    folders = {house: house.partition(".")[2] or "front" for house in HOUSES}
    for folder in folders.values():
        modules = [path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts]
        assert modules, folder
        for path in modules:
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return {house: tmp_path / folder for house, folder in folders.items()}


def test_the_code_s_digest_changes_with_any_byte_of_any_module(checkout: dict[str, Path]) -> None:
    modules = sorted(path for folder in checkout.values() for path in folder.rglob("*.py"))
    assert {len(path.relative_to(checkout["twinlines"].parent).parts) for path in modules} >= {2, 3}
    digests = {code_digest(checkout)}
    for path in modules:
        code = path.read_bytes()
        path.write_bytes(code + b"#")
        digests.add(code_digest(checkout))
        path.write_bytes(code)
    assert len(digests) == 1 + len(modules)


def test_the_code_s_digest_knows_where_code_stands(checkout: dict[str, Path]) -> None:
    before = code_digest(checkout)
    room = checkout["twinlines.pipeline"] / "storage"
    (room / "atomic.py").rename(room / "atomics.py")
    renamed = code_digest(checkout)
    (room / "atomics.py").rename(room.parent / "atomic.py")
    assert len({before, renamed, code_digest(checkout)}) == 3


def test_the_code_s_digest_leaves_out_what_is_no_module_of_a_package(checkout: dict[str, Path]) -> None:
    before = code_digest(checkout)
    pipeline = checkout["twinlines.pipeline"]
    for stray in ("__pycache__/arms.py", "data/make.py", "notes.txt", "storage/tests/test_atomic.py", "typed.pyi"):
        (pipeline / stray).parent.mkdir(exist_ok=True)
        (pipeline / stray).write_text("1\n")
    assert code_digest(checkout) == before


def test_the_code_s_digest_is_the_same_where_packages_lie_within_each_other(
    checkout: dict[str, Path], tmp_path: Path
) -> None:
    before = code_digest(checkout)
    # As pip lays them out: editable installs have four folders side by side, others one within which the three lie.
    installed = checkout["twinlines"].rename(tmp_path / "twinlines")
    inner = {
        house: folder.rename(installed / folder.name) for house, folder in checkout.items() if house != "twinlines"
    }
    assert code_digest({"twinlines": installed, **inner}) == before
    assert code_digest({**inner, "twinlines": installed}) == before
