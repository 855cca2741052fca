"""The lock of a folder: who comes second is refused, and who dies lets go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from twinlines.pipeline.jobs import locks
from twinlines.pipeline.jobs.locks import LockedError


def test_the_second_who_wants_the_lock_is_told_who_has_it(tmp_path: Path) -> None:
    assert locks.holder(tmp_path) is None
    with locks.lock(tmp_path, "twinlines run"):
        assert f"process {os.getpid()} on" in str(locks.holder(tmp_path))
        with (
            pytest.raises(LockedError, match=rf"in use by 'twinlines run', process {os.getpid()} on .*, since 20"),
            locks.lock(tmp_path, "twinlines run"),
        ):
            pytest.fail("both hold the lock")
    assert locks.holder(tmp_path) is None
    with locks.lock(tmp_path, "again"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from twinlines.pipeline.jobs import locks\n"
        "with locks.lock(Path(sys.argv[1]), 'victim'):\n print('held', flush=True); time.sleep(600)"
    )
    victim = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "held\n"
        with (
            pytest.raises(LockedError, match=f"'victim', process {victim.pid}"),
            locks.lock(tmp_path, "heir"),
        ):
            pytest.fail("both hold the lock")
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    with locks.lock(tmp_path, "heir"):
        assert "heir" in str(locks.holder(tmp_path))


def test_who_may_not_write_is_told_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with locks.lock(tmp_path, "twinlines run"):
        monkeypatch.setattr(locks.FileLock, "acquire", refuse)
        assert f"process {os.getpid()} on" in str(locks.holder(tmp_path))
    assert locks.holder(tmp_path) is None
