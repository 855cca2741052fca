"""The survey's folder: what is where, known by one module."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.places import ROOT
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.catalog.errors import CatalogError
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import SurveyError
from twinlines.pipeline.survey.status import status
from twinlines.pipeline.testing.survey import write_release

LAYOUT = re.compile(r"releases|catalogs|runs|CURRENT|\\.lock|\\.ingest\\.lock|.*\\.(work|partial)|\\[!\\.\\].*")
OWNERS = {"pipeline/survey/folder.py", "pipeline/jobs/locks.py"}


def _texts(path: Path) -> list[str]:
    """Texts in a module that are parts of paths: operands of ``/`` and arguments of ``glob``."""
    tree, texts = ast.parse(path.read_text()), []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            texts += [node.right]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("glob", "rglob"):
            texts += node.args
    return [text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str)]


def test_no_other_module_spells_the_layout() -> None:
    spelled = {
        str(path.relative_to(ROOT)): found
        for path in (ROOT / "pipeline").rglob("*.py")
        if (found := [text for text in _texts(path) if LAYOUT.fullmatch(text)])
    }
    assert "pipeline/survey/folder.py" in spelled
    assert not set(spelled) - OWNERS, spelled


def test_a_survey_says_what_it_holds(tmp_path: Path) -> None:
    survey = Survey(tmp_path / "s")
    assert "no such folder" in repr(survey)
    with pytest.raises(SurveyError, match="there is no survey at"):
        _ = survey.releases
    write_release(tmp_path / "s", "dr2", np.arange(1, 8), day=1)
    write_release(tmp_path / "s", "dr1", np.arange(1, 6))
    assert [(release.name, release.rows) for release in survey.releases] == [("dr1", 5), ("dr2", 7)]
    assert repr(survey).splitlines() == [
        f"<Survey {tmp_path / 's'}: 2 releases: dr1 (5 exposures), dr2 (7 exposures)",
        " 0 runs, 0 catalogs; current: none>",
    ]
    assert [release.name for release in survey.releases_up_to("dr1")] == ["dr1"]
    with pytest.raises(SurveyError, match="has no release 'dr3'; it has dr1, dr2"):
        survey.releases_up_to("dr3")


def test_a_copy_of_a_release_does_not_count_and_is_said(tmp_path: Path) -> None:
    survey = Survey(tmp_path)
    write_release(tmp_path, "dr7", np.arange(1, 6))
    shutil.copytree(tmp_path / "releases" / "dr7", tmp_path / "releases" / "dr7.bak")
    assert [release.name for release in survey.releases] == ["dr7"]
    assert survey.copies == (tmp_path / "releases" / "dr7.bak",)
    assert f"{tmp_path}/releases/dr7.bak is a copy and does not count" in repr(survey)
    assert status(tmp_path).copies == (str(tmp_path / "releases" / "dr7.bak"),)
    # One that was renamed is no copy: without it, its rows would be missing without a word.
    shutil.rmtree(tmp_path / "releases" / "dr7")
    with pytest.raises(SurveyError, match=r"dr7\.bak says that it is the release 'dr7'.*rename the folder to 'dr7'"):
        _ = survey.releases


def test_a_release_in_the_making_is_no_release(tmp_path: Path) -> None:
    survey = Survey(tmp_path)
    making = survey.new_release("dr1")
    for folder in (making.work, making.partial):
        folder.mkdir(parents=True)
        (folder / "release.json").write_text("{}")
    assert survey.releases == ()
    assert survey.releases_in_the_making == (making,)
    assert (making.scanned.done, making.written.done) == (0, 0)
    for name in ("a/b", ".dr1", "", "dr 1"):
        with pytest.raises(SurveyError, match="cannot name a release"):
            survey.new_release(name)


def test_the_catalog_of_a_release_is_the_current_run_s(tmp_path: Path) -> None:
    survey = Survey(tmp_path)
    for number, (release, run) in enumerate([("dr1", "a"), ("dr2", "a"), ("dr1", "b"), ("dr2", "c")], start=1):
        folder = survey.catalog(survey.catalog_name(release, run))
        folder.mkdir(parents=True)
        attributes = {"releases": ["dr1", "dr2"][: int(release[2:])], "run": run, "number": number}
        (folder / "zarr.json").write_text(json.dumps({"attributes": attributes}))
    assert survey.current is None
    assert survey.catalog_of_release("dr1") == "dr1-b.zarr"  # published last
    survey.make_current("dr2-a.zarr")
    assert survey.current == tmp_path / "catalogs" / "dr2-a.zarr"
    assert survey.catalog_of_release("dr1") == "dr1-a.zarr"
    assert survey.catalog_of_release("dr9") is None
    assert survey.next_catalog_number == 5
    (survey.catalog("dr1-a.zarr") / "zarr.json").write_text("{")
    assert survey.catalog_of_release("dr1") == "dr1-b.zarr"


def test_a_damaged_pointer_is_no_crash(tmp_path: Path) -> None:
    write_release(tmp_path / "s", "dr1", np.arange(1, 6))
    (tmp_path / "s" / "CURRENT").write_bytes(b"\xff\x00\xfe\n")
    survey = Survey(tmp_path / "s")
    assert survey.current is not None
    assert not survey.current.exists()
    assert status(tmp_path / "s").catalog == survey.current.name
    with pytest.raises(CatalogError, match=r"it has \[\]; CURRENT names it, and 'twinlines run --survey .* the newest"):
        catalog.open(tmp_path / "s")
    survey.make_current("dr1-0123456789abcdef.zarr")
    assert survey.current == survey.catalog("dr1-0123456789abcdef.zarr")
