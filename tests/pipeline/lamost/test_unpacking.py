"""Compressed files, and files that the system does not let us read."""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlines.pipeline.lamost import ordinary, reader, unpacking
from twinlines.pipeline.lamost.reader import LamostError, OutOfReachError, Reason
from twinlines.pipeline.testing.exposures import random_file


def packed(path: Path, *layers: Callable[[bytes], bytes]) -> Path:
    reader.write(path, random_file(0, 1))
    content = path.read_bytes()
    for layer in layers:
        content = layer(content)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "layers",
    [(gzip.compress, gzip.compress), (bz2.compress,), (lzma.compress,), (bz2.compress, gzip.compress, gzip.compress)],
)
def test_files_may_be_compressed_twice(tmp_path: Path, layers: tuple[Callable[[bytes], bytes], ...]) -> None:
    assert reader.read(packed(tmp_path / "x.fits", *layers)).obsid == random_file(0, 1).obsid


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_that_breaks_off_is_truncated(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = packed(tmp_path / "x.fits", pack)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(LamostError, match="ends early; fetch it again") as caught:
        reader.read(path)
    assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.parametrize("content", [b"\x1f\x9d\x90ab", b"\x28\xb5\x2f\xfdxx", b"PK\x03\x04xx"])
def test_what_cannot_be_unpacked_here_is_not_to_be_removed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.fits.Z").write_bytes(content)
    with pytest.raises(LamostError, match="unpack it"):
        reader.read(tmp_path / "x.fits.Z")


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_an_error_of_the_system_is_no_fault_of_the_file(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "x.fits")

    def refuse(*_: object, **__: object) -> object:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutOfReachError, match=r"x\.fits") as caught:
        reader.read(path)
    assert caught.value.errno == number


def test_a_link_that_leads_nowhere_is(tmp_path: Path) -> None:
    (tmp_path / "x.fits").symlink_to(tmp_path / "nowhere")
    with pytest.raises(LamostError) as caught:
        reader.read(tmp_path / "x.fits")
    assert caught.value.reason is Reason.UNREADABLE


def test_a_full_memory_disk_gives_way_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "x.fits")
    monkeypatch.setattr(ordinary, "extensions", lambda *_: None)  # those of an ordinary file need no copy
    real = unpacking.tempfile.NamedTemporaryFile

    def scarce(**where: str) -> object:
        if where["dir"] == str(tmp_path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(**where)

    monkeypatch.setattr(unpacking, "_MEMORY", str(tmp_path))
    monkeypatch.setattr(unpacking.tempfile, "NamedTemporaryFile", scarce)
    assert reader.read(path).obsid == random_file(0, 1).obsid
    monkeypatch.setattr(unpacking.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(OSError, match=r"No space left on device: no copy of \d+ bytes") as caught:
        reader.read(path)
    assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize("place", [3, 200, 5000, -6, -2])
def test_a_gzip_of_which_a_bit_is_wrong_is_no_spectrum(tmp_path: Path, place: int) -> None:
    path = packed(tmp_path / "x.fits", gzip.compress)
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    with contextlib.suppress(LamostError):
        # A flag of the gzip's own header may say no more than that there is a name.
        assert unpacking.content_of(path) == packed(tmp_path / "y.fits").read_bytes()


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4), st.integers(0, 20))
def test_gzips_that_follow_each_other_are_what_gzip_reads(parts: list[bytes], zeros: int) -> None:
    content = b"".join(map(gzip.compress, parts))
    assert unpacking.inflated(content + b"\0" * zeros, "gzip") == gzip.decompress(content)
