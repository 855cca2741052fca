import numpy as np
import pytest

from twinlines.pipeline.storage import hashed_npz
from twinlines.pipeline.storage.hashed_npz import PackedError, content_digest


@pytest.fixture
def arrays():
    rng = np.random.default_rng(1)
    return {"a": rng.normal(size=(3, 400)), "b": np.arange(5, dtype=np.int16)}


def test_what_is_written_is_read_back(tmp_path, arrays):
    digest = hashed_npz.write(tmp_path / "x.npz", "thing", 2, arrays, {"source": "a test"})
    content = hashed_npz.read(tmp_path / "x.npz", "thing", 2)
    assert content.digest == digest == content_digest(arrays)
    assert content.attrs == {"source": "a test"}
    assert set(content.arrays) == set(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(content.arrays[name], values)
        assert content.arrays[name].dtype == values.dtype


def test_the_digest_is_of_content_and_not_of_byte_order_or_layout(arrays):
    swapped = {name: values.astype(values.dtype.newbyteorder(">")) for name, values in arrays.items()}
    assert content_digest(swapped) == content_digest(arrays)
    assert content_digest({"a": np.asfortranarray(arrays["a"]), "b": arrays["b"]}) == content_digest(arrays)
    assert content_digest({"a": arrays["a"].reshape(4, 300), "b": arrays["b"]}) != content_digest(arrays)
    assert content_digest({"c": arrays["a"], "b": arrays["b"]}) != content_digest(arrays)


def test_kind_and_version_are_checked_and_both_sides_named(tmp_path, arrays):
    hashed_npz.write(tmp_path / "x.npz", "thing", 2, arrays, {})
    with pytest.raises(PackedError, match=r"'thing' version 2; this code reads 'thing' version 3"):
        hashed_npz.read(tmp_path / "x.npz", "thing", 3)
    with pytest.raises(PackedError, match=r"reads 'other' version 2"):
        hashed_npz.read(tmp_path / "x.npz", "other", 2)


def test_a_missing_or_foreign_file_is_refused(tmp_path, arrays):
    with pytest.raises(PackedError, match="does not exist"):
        hashed_npz.read(tmp_path / "none.npz", "thing", 1)
    for name, content in (("empty.npz", b""), ("text.npz", b"no archive"), ("pickle.npz", b"\x80\x04N.")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PackedError, match=name):
            hashed_npz.read(tmp_path / name, "thing", 1)
    np.savez(tmp_path / "plain.npz", **arrays)
    with pytest.raises(PackedError, match="not a packed thing"):
        hashed_npz.read(tmp_path / "plain.npz", "thing", 1)
    np.save(tmp_path / "single.npy", arrays["a"])
    with pytest.raises(PackedError, match="single"):
        hashed_npz.read(tmp_path / "single.npy", "thing", 1)


def test_every_flipped_byte_or_cut_is_noticed_or_harmless(tmp_path, arrays):
    path = tmp_path / "x.npz"
    digest = hashed_npz.write(path, "thing", 2, arrays, {})
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    noticed = 0
    for place in rng.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            assert hashed_npz.read(path, "thing", 2).digest == digest  # a byte that means nothing, such as a date
        except PackedError:
            noticed += 1
    assert noticed > 50
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PackedError, match="damaged"):
        hashed_npz.read(path, "thing", 2)


def test_every_flipped_bit_that_says_how_it_is_packed_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "x.npz"
    digest = hashed_npz.write(path, "thing", 2, {"a": np.arange(3)}, {})
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1  # in one place it says "encrypted", in another "packed by a method unknown"
        path.write_bytes(damaged)
        try:
            assert hashed_npz.read(path, "thing", 2).digest == digest
        except PackedError:
            continue


def test_a_header_that_contradicts_the_content_is_noticed(tmp_path, arrays):
    path = tmp_path / "x.npz"
    hashed_npz.write(path, "thing", 2, arrays, {})
    with np.load(path) as stored:
        content = dict(stored)
    content["b"] = content["b"] + 1
    np.savez_compressed(path, **content)
    with pytest.raises(PackedError, match="its content hashes to"):
        hashed_npz.read(path, "thing", 2)
