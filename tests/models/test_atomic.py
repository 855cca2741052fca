from __future__ import annotations

import os
from pathlib import Path

import pytest

from twinlines.models import atomic


def test_failure_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    atomic.write_bytes(path, b"old")
    with pytest.raises(TypeError):
        atomic.write_bytes(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["marker"]


def test_a_rename_is_flushed_before_the_next_file_may_count_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[bool] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        flushed.append((tmp_path / "weights").exists())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    atomic.write_bytes(tmp_path / "weights", b"new")
    assert flushed == [False, True]  # the content before it has its name, the folder after


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left.*marker"), atomic.naming(tmp_path / "marker"):
        Path("/dev/full").write_bytes(b"x")
