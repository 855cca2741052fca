"""Reading files into a Dataset: which files, in which order, and what happens to bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twinlines.pipeline.lamost import LamostError, write
from twinlines.pipeline.lamost.dataset import BadFileWarning, read_lamost
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.testing import random_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plate").mkdir()
    for number, name in enumerate(("b.fits.gz", "a.fits", "plate/c.fits")):
        write(tmp_path / name, random_file(number + 1))
    (tmp_path / "notes.txt").write_text("no spectrum")
    return tmp_path


def test_a_file_several_or_a_folder(folder: Path) -> None:
    whole = read_lamost(folder)
    EXPOSURES.validate(whole)
    names = whole["source_file"].values.tolist()
    assert list(dict.fromkeys(names)) == ["a.fits", "b.fits.gz", "plate/c.fits"]
    single = read_lamost(str(folder / "a.fits"))
    assert set(single["source_file"].values) == {"a.fits"}
    several = read_lamost([folder / "plate" / "c.fits", str(folder / "a.fits")])
    assert several["source_file"].values[-1] == "a.fits"
    for name in EXPOSURES.variables:
        mine, theirs = single[name].values, whole[name].values[: single.sizes["exposure"]]
        assert np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f"), name


def test_a_bad_file_is_an_error_or_a_warning(folder: Path) -> None:
    (folder / "bad.fits").write_bytes(b"SIMPLE  = not really")
    with pytest.raises(LamostError, match=r"bad\.fits"):
        read_lamost(folder)
    with pytest.warns(BadFileWarning, match=r"left out: .*bad\.fits"):
        left = read_lamost(folder, skip_bad=True)
    assert "bad.fits" not in left["source_file"].values


def test_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*x\.fits"):
        read_lamost(tmp_path / "x.fits")
    with pytest.raises(FileNotFoundError, match="in the folder"):
        read_lamost(tmp_path)


def test_problems_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a.fits", random_file(1))
    assert read_lamost(tmp_path).attrs["problems"] == []
