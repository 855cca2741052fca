"""Where compiled kernels are kept, and that nothing about that place can hurt a result."""

from __future__ import annotations

import os
from pathlib import Path

import numba
import numpy as np
import pytest

from twinlines.pipeline.spectra.compiled import compiling


def double(values: np.ndarray, out: np.ndarray) -> None:
    """Something that compiles quickly."""
    for i in range(values.size):
        out[i] = values[i] * 2.0


def doubled() -> list[float]:
    """What a new kernel makes of 1, 2 and 3."""
    out = np.empty(3)
    compiling.kernel(double)(np.array([1.0, 2.0, 3.0]), out)
    return out.tolist()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own, and nothing said to Numba."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def kept(home: Path) -> set[Path]:
    return {path for path in home.rglob("*") if path.suffix in (".nbi", ".nbc")}


def test_a_kernel_is_kept_and_found_again(home: Path) -> None:
    assert doubled() == [2.0, 4.0, 6.0]
    files = kept(home)
    assert len(files) == 2
    before = {path: path.stat().st_mtime_ns for path in files}
    assert doubled() == [2.0, 4.0, 6.0]
    assert {path: path.stat().st_mtime_ns for path in kept(home)} == before
    assert numba.config.CACHE_DIR == ""


def test_numba_s_own_folder_is_where_it_is_kept_if_it_is_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(home / "numba"))
    assert doubled() == [2.0, 4.0, 6.0]
    assert kept(home) == kept(home / "numba" / "twinlines")
    assert kept(home)


def test_other_code_has_another_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = compiling.cache_folder()
    monkeypatch.setattr(compiling, "__file__", str(home / "other" / "compiling.py"))
    compiling._digest.cache_clear()
    try:
        assert compiling.cache_folder() != folder
    finally:
        compiling._digest.cache_clear()


@pytest.mark.parametrize("what", ["a file", "no permission", "another user's", "no home"])
def test_where_nothing_can_be_kept_each_process_compiles(
    home: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "a file":
        (home / "twinlines").write_text("")
    elif what == "no permission":
        monkeypatch.setattr(os, "access", lambda *_: False)
    elif what == "another user's":
        monkeypatch.setattr(os, "getuid", lambda: 1 + Path(home).stat().st_uid)
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert compiling.cache_folder() is None
    assert doubled() == [2.0, 4.0, 6.0]
    assert not kept(home)


@pytest.mark.parametrize("content", [b"", b"no pickle at all"])
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_what_is_damaged_is_thrown_away_and_made_anew(home: Path, suffix: str, content: bytes) -> None:
    doubled()
    for path in kept(home):
        if path.suffix == suffix:
            path.write_bytes(content)
    assert doubled() == [2.0, 4.0, 6.0]
    files = kept(home)
    assert len(files) == 2
    assert all(path.stat().st_size > len(content) for path in files)


def test_a_full_disk_keeps_nothing_and_hurts_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import IndexDataCacheFile

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    assert doubled() == [2.0, 4.0, 6.0]
    assert not kept(home)
