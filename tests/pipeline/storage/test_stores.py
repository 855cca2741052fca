"""Reading a few columns of a store: what the system refuses is told as it is."""

from __future__ import annotations

import errno
import zipfile
from pathlib import Path

import numpy as np
import pytest

from twinlines.pipeline.schema import RESULTS
from twinlines.pipeline.storage import stores
from twinlines.pipeline.storage.stores import StoreError


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOMEM])
def test_a_zipped_store_that_cannot_be_opened_is_an_error_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "result.zarr.zip"
    path.write_bytes(stores.pack(RESULTS, RESULTS.dataset({"obsid": np.arange(3, dtype=np.int64)}, 3)))
    assert stores.read_columns(path, ["obsid"])["obsid"].tolist() == [0, 1, 2]

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(code, "the system's words")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", refuse)
        with pytest.raises(StoreError, match=r"result\.zarr\.zip: cannot read obsid: .*the system's words"):
            stores.read_columns(path, ["obsid"])
