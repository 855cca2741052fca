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


def test_what_is_no_json_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "marker.json"
    atomic.write_json(path, {"rows": 3})
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(path, float("nan"))
    assert json.loads(path.read_text()) == {"rows": 3}
