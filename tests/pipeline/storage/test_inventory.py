"""A store that lost a file says so: Zarr itself would answer with missing values."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinlines.pipeline.schema import RESULTS
from twinlines.pipeline.storage import stores
from twinlines.pipeline.storage.stores import StoreError


def _make(path: Path, *, contents: bool = True) -> Path:
    columns = {
        "obsid": np.arange(1, 6),
        "planid": np.array(["TD"] * 5, dtype=object),
        "rv_obs_B": np.linspace(-1.0, 1.0, 5, dtype=np.float32),
    }
    stores.create(path, RESULTS, 5, {"name": "x"})
    stores.write_shard(path, RESULTS, 0, RESULTS.dataset(columns, 5))
    stores.seal(path, RESULTS, contents=contents)
    return path


def test_a_whole_store_opens_and_hides_its_inventory(tmp_path: Path) -> None:
    path = _make(tmp_path / "a.zarr")
    with stores.open_store(path, RESULTS) as store:
        assert "inventory" not in store.attrs
        assert store.attrs["name"] == "x"
    assert stores.damaged(path) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_file_that_goes_is_missed(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.zarr"
    shutil.rmtree(path, ignore_errors=True)
    _make(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file != path / "zarr.json")
    lost = data.draw(st.sampled_from(files))
    lost.unlink()
    with pytest.raises(StoreError, match=r"a\.zarr"):
        stores.open_store(path, RESULTS)
    assert stores.damaged(path)


def test_a_folder_that_goes_is_missed_and_named(tmp_path: Path) -> None:
    path = _make(tmp_path / "a.zarr")
    shutil.rmtree(path / "rv_obs_B" / "c")
    with pytest.raises(StoreError, match=r"is not whole: 'rv_obs_B' has 1 of 2 files; restore it from a copy"):
        stores.open_store(path, RESULTS)


@pytest.mark.parametrize("contents", [True, False])
def test_a_cut_file_is_seen_at_once_and_a_changed_one_by_its_content(tmp_path: Path, contents: bool) -> None:
    path = _make(tmp_path / "a.zarr", contents=contents)
    (chunk,) = (file for file in (path / "rv_obs_B" / "c").rglob("*") if file.is_file())
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-1])
    with pytest.raises(StoreError, match=r"'rv_obs_B' has \d+ bytes where"):
        stores.open_store(path, RESULTS)
    chunk.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    stores.open_store(path, RESULTS).close()
    assert stores.damaged(path, contents=False) == []
    assert stores.damaged(path) == (["'rv_obs_B' has another content than was written"] if contents else [])


def test_strangers_among_the_files_do_not_count(tmp_path: Path) -> None:
    """NFS leaves ``.nfs`` files by itself, where an open file is removed."""
    path = _make(tmp_path / "a.zarr")
    for name in (".nfs0001", ".DS_Store", "zarr.json~"):
        (path / "rv_obs_B" / name).touch()
        (path / "rv_obs_B" / "c" / name).touch()
    stores.open_store(path, RESULTS).close()
    assert stores.damaged(path) == []


def test_a_store_of_before_opens(tmp_path: Path) -> None:
    stores.create(tmp_path / "a.zarr", RESULTS, 5)
    stores.open_store(tmp_path / "a.zarr", RESULTS).close()
    assert stores.damaged(tmp_path / "a.zarr") == []
    (tmp_path / "a.zarr" / "zarr.json").unlink()
    assert stores.damaged(tmp_path / "a.zarr")[0].startswith("its zarr.json cannot be read")


def test_colons_in_a_path_are_letters(tmp_path: Path) -> None:
    with stores.open_store(_make(tmp_path / "kic::v1.zarr"), RESULTS) as store:
        assert store["obsid"].values.tolist() == [1, 2, 3, 4, 5]
