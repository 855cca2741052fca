"""The files of a folder: in the order of paths, through links, in batches on disk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from twinlines.pipeline.ingest.filewalk import FileList, FoundFile, walk


def test_finds_files_by_name_and_through_links(tmp_path: Path) -> None:
    for name in ("b/x.fits", "a/y.fits.gz", "a/z.txt", "c.FITS", "fits"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "w.fits").touch()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
    assert [file.path for file in walk(tmp_path / "in")] == ["a/y.fits.gz", "b/x.fits", "c.FITS", "linked/w.fits"]


def test_the_walk_is_in_the_order_of_paths(tmp_path: Path) -> None:
    names = ["a/b.fits", "a.fits", "a-b/c.fits", "a/b/c.fits", "a b.fits", "a0/x.fits", "B.fits.gz", "a/b.fits.gz"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to("loop")
    assert [file.path for file in walk(tmp_path)] == sorted(names)


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may list everything
    with pytest.raises(PermissionError, match="closed"):
        list(walk(tmp_path))


def test_a_list_of_files_is_read_in_batches(tmp_path: Path) -> None:
    found = [FoundFile(f"{n}.fits", n, 7) for n in range(9)] + [FoundFile(os.fsdecode(b"\xff.fits"), 1, 1)]
    files = FileList.write(tmp_path / "list", iter(found), 4, "salt")
    assert (len(files), [batch.first for batch in files.batches]) == (10, [0, 4, 8])
    assert [files.path(n) for n in range(10)] == [one.path for one in found]
    assert files.paths(files.batches[2]) == (found[8].path, found[9].path)
    assert FileList.write(tmp_path / "list", iter(found), 4, "salt").batches == files.batches
    changed = [replace(found[0], changed=8), *found[1:]]
    others = FileList.write(tmp_path / "other", iter(changed), 4, "salt").batches
    assert [a.key == b.key for a, b in zip(others, files.batches, strict=True)] == [False, True, True]


def test_links_in_a_ring_are_walked_once(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.fits").touch()
    for name, others in (("a", "bc"), ("b", "ca"), ("c", "ab")):
        for other in others:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    found = [file.path for file in walk(tmp_path)]
    assert sorted(found, key=len)[:3] == ["a/a.fits", "b/b.fits", "c/c.fits"]
    assert len(found) == 3 * (1 + 2 + 2)


def test_a_list_that_was_written_anew_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    found = [FoundFile(f"{n}.fits", n, 7) for n in range(6)]
    before = FileList.write(tmp_path / "list", iter(found), 4, "salt")
    FileList.write(tmp_path / "list", iter([*found[:5], replace(found[5], path="a longer name.fits")]), 4, "salt")
    assert before.file.paths(before.batches[0]) == ("0.fits", "1.fits", "2.fits", "3.fits")
    with pytest.raises(ValueError, match=r"list has other files than it had for files 4 to 6 of the list"):
        before.file.paths(before.batches[1])
