from __future__ import annotations

import json
from pathlib import Path

import pytest

from twinlines.pipeline.storage import atomic


def test_replaces_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "marker.json"
    atomic.write_json(path, {"rows": 3, "name": "Å"})
    atomic.write_json(path, {"rows": 4})
    assert json.loads(path.read_text()) == {"rows": 4}
    assert [p.name for p in tmp_path.iterdir()] == ["marker.json"]


def test_failure_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    atomic.write_bytes(path, b"old")
    with pytest.raises(TypeError):
        atomic.write_bytes(path, "not bytes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(path, float("nan"))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["marker"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left.*marker"), atomic.naming(tmp_path / "marker"):
        Path("/dev/full").write_bytes(b"x")
