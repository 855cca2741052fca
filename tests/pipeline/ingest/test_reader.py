"""Reading in a child process; what it does for an ingestion is tried in ``test_ingest.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinlines.pipeline.ingest import reader
from twinlines.pipeline.ingest.reader import ReaderError, Reading, close_idle, read_all
from twinlines.pipeline.lamost.writer import write
from twinlines.pipeline.testing.exposures import random_file


def test_children_are_kept_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "x.fits", random_file(0, 1))
    path = str(tmp_path / "x.fits")
    (first,) = read_all(iter([path]), Reading())
    (child,) = reader._idle
    assert first.rows[0][:2] == (random_file(0, 1).obsid, 84_107_311)
    assert list(read_all(iter([path]), Reading())) == [first]
    assert reader._idle == [child]
    child._process.kill()
    child._process.wait()
    assert list(read_all(iter([path]), Reading())) == [first]
    assert reader._idle != [child]
    close_idle()
    with pytest.raises(ReaderError, match=r"can be started here: .*No module named no_such_module"):
        list(read_all(iter([path]), Reading(module="no_such_module")))
