"""Pairs are read in parts: each once, in an order of the seed alone, few at a time; what is wrong is named."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from tests.models.conftest import make_pairs
from twinlines.models.batches import batches
from twinlines.models.pairs import PairArrays, PairsError, Part, join, load_pairs
from twinlines.models.vocabulary import ARMS, HEADS, TEST, TRAIN, VALIDATION

CPU = torch.device("cpu")


def store(path: Path, pairs: PairArrays, chunk: int = 64) -> Path:
    group = zarr.create_group(store=path)
    for arm in ARMS:
        flux = np.asarray(pairs.flux[arm][:])
        rows = -(-len(flux) // chunk) * chunk
        group.create_array(f"flux_{arm}", data=flux, chunks=(chunk, 1, flux.shape[2]), shards=(rows, 2, flux.shape[2]))
        group.create_array(f"snr_{arm}", data=pairs.snr[arm])
    group.create_array("label", data=pairs.label)
    group.create_array("split", data=pairs.split)
    return path


def rows_of(parts: Iterable[Part]) -> NDArray[np.int64]:
    """Which pairs these are: the toy's S/N says it."""
    snr = np.concatenate([part.snr["B"] for part in parts] or [np.empty(0, np.float32)])
    return np.rint((snr - 20.0) * 1024).astype(np.int64)


def assert_whole(part: Part, pairs: PairArrays) -> None:
    """All that is said of a pair stayed together."""
    rows = rows_of([part])
    np.testing.assert_array_equal(part.label, pairs.label[rows])
    for arm in ARMS:
        assert part.flux[arm].dtype == np.float16
        np.testing.assert_array_equal(part.flux[arm], np.asarray(pairs.flux[arm][:], np.float16)[rows])
        np.testing.assert_array_equal(part.snr[arm], pairs.snr[arm][rows])


@pytest.mark.parametrize("split", [TRAIN, VALIDATION, TEST])
def test_a_store_is_read_by_split(split: int, pairs: PairArrays, tmp_path: Path) -> None:
    loaded = load_pairs(store(tmp_path / "pairs.zarr", pairs))
    assert loaded.pixels == pairs.pixels == (120, 131)
    assert loaded.block == 448  # the store's shard
    for each in (loaded, replace(loaded, block=64), replace(loaded, block=100)):
        parts = list(each.parts(split))
        for part in parts:
            assert_whole(part, pairs)
        np.testing.assert_array_equal(rows_of(parts), np.flatnonzero(pairs.split == split))
        assert each.count(split) == len(rows_of(parts))
        np.testing.assert_array_equal(rows_of(each.parts(split, 30)), np.flatnonzero(pairs.split == split)[:30])


def test_rounding_to_half_precision_is_far_below_the_noise() -> None:
    rng = np.random.default_rng(0)
    flux = {arm: (1 + rng.standard_normal((50, 2, 500)) / 100).astype(np.float32) for arm in ARMS}
    label, snr = np.zeros((50, 2), np.int8), dict.fromkeys(ARMS, np.full(50, 100, np.float32))
    (part,) = PairArrays(flux, label, np.zeros(50, np.int8), snr, "").parts(TRAIN)
    for arm in ARMS:
        assert (part.flux[arm].astype(np.float32) - flux[arm]).std() < 0.03 * 0.01


def test_what_is_beyond_half_precision_is_finite(pairs: PairArrays) -> None:
    flux = np.array(pairs.flux["R"][:])
    flux[0, 1, 3], flux[1, 0, 4] = 1e9, -1e9
    part = next(replace(pairs, flux={**pairs.flux, "R": flux}).parts(TRAIN))
    assert np.isfinite(part.flux["R"]).all()
    assert np.abs(part.flux["R"]).max() == 1e4


@settings(max_examples=40, deadline=None)
@given(block=st.integers(1, 500), most=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_an_epoch_shows_each_pair_once_in_an_order_of_its_seed(block: int, most: int, seed: int) -> None:
    """Or as many as are asked for, none of them twice."""
    pairs = replace(PAIRS, block=block)
    mine = np.flatnonzero(pairs.split == TRAIN)
    plan = pairs.plan(TRAIN, np.random.default_rng(seed), most)
    assert plan.total == min(most or len(mine), len(mine))
    parts = list(plan.parts())
    for part in parts:
        assert_whole(part, pairs)
        assert len(part.label) <= 2 * block
    shown = rows_of(parts)
    assert len(shown) == plan.total
    assert len(set(shown.tolist())) == len(shown)
    assert set(shown.tolist()) <= set(mine.tolist())
    again = pairs.plan(TRAIN, np.random.default_rng(seed), most)
    np.testing.assert_array_equal(rows_of(again.parts()), shown)


PAIRS = make_pairs()


def test_orders_of_other_seeds_differ_and_are_mixed() -> None:
    first, second = (rows_of(PAIRS.plan(TRAIN, np.random.default_rng(seed)).parts()) for seed in (1, 2))
    assert (first != second).mean() > 0.9
    # Within what is in memory together, whatever the blocks were.
    assert np.abs(np.corrcoef(np.arange(50), first[:50])[0, 1]) < 0.6
    # Of some, a fresh choice each.
    few = [set(rows_of(PAIRS.plan(TRAIN, np.random.default_rng(s), 40).parts()).tolist()) for s in range(5)]
    assert len(set.union(*few)) > 80


class Counted:
    """Flux that tells how many of its rows were read, and how many at once."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values, self.shape = values, values.shape
        self.reads: list[slice] = []
        self.threads: set[int] = set()

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        self.reads.append(rows)
        self.threads.add(threading.get_ident())
        return self.values[rows]


def test_no_more_than_two_blocks_and_two_that_come_are_read() -> None:
    counted = Counted(np.asarray(PAIRS.flux["B"][:]))
    pairs = replace(PAIRS, flux={**PAIRS.flux, "B": counted}, block=20)
    parts = pairs.plan(TRAIN, np.random.default_rng(0)).parts()
    for number, _ in enumerate(parts, 1):
        assert len(counted.reads) <= 2 * number + 2  # those shown, and those that come
    assert len(counted.reads) == 20
    assert {rows.stop - rows.start for rows in counted.reads} == {20}
    assert threading.get_ident() not in counted.threads  # read while the caller works
    counted.reads.clear()
    plan = pairs.plan(TRAIN, np.random.default_rng(0), 35)
    assert len(rows_of(plan.parts())) == 35
    assert len(counted.reads) == 4  # ten of a block are of the split


def test_blocks_without_a_pair_of_the_split_are_not_read() -> None:
    counted = Counted(np.asarray(PAIRS.flux["B"][:]))
    split = np.zeros(400, np.int8)
    split[100:110], split[390:] = TEST, VALIDATION
    pairs = replace(PAIRS, flux={**PAIRS.flux, "B": counted}, split=split, block=50)
    assert rows_of(pairs.parts(TEST)).tolist() == list(range(100, 110))
    assert [(rows.start, rows.stop) for rows in counted.reads] == [(100, 150)]


def test_who_stops_in_the_middle_leaves_nothing_behind() -> None:
    before = threading.active_count()
    parts = replace(PAIRS, block=20).plan(TRAIN, np.random.default_rng(0)).parts()
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(0, 40), max_size=8), size=st.integers(1, 50))
def test_batches_are_cut_across_parts_without_loss(counts: list[int], size: int) -> None:
    edges = np.cumsum([0, *counts])
    (whole,) = replace(PAIRS, split=np.zeros(400, np.int8), block=400).parts(TRAIN)
    parts = [whole.take(slice(start, stop)) for start, stop in pairwise(edges.tolist())]
    made = list(batches(iter(parts), size, CPU))
    total = int(edges[-1])
    assert [len(batch.label) for batch in made] == [size] * (total // size) + [total % size] * (total % size > 0)
    start = 0
    for batch in made:
        rows = slice(start, start + len(batch.label))
        np.testing.assert_array_equal(batch.label, whole.label[rows])
        for arm in ARMS:
            assert batch.flux[arm].dtype == torch.float32
            np.testing.assert_array_equal(batch.flux[arm], whole.flux[arm][rows].astype(np.float32))
            np.testing.assert_array_equal(batch.snr[arm], whole.snr[arm][rows])
        for head in HEADS:
            np.testing.assert_array_equal(batch.weight[head], whole.weight[head][rows])
        assert len(list(batch.tensors())) == 8
        start += len(batch.label)


def test_the_digest_follows_the_values_alone(pairs: PairArrays, tmp_path: Path) -> None:
    first = load_pairs(store(tmp_path / "a.zarr", pairs)).digest
    assert load_pairs(store(tmp_path / "b.zarr", pairs, chunk=10)).digest == first == pairs.digest
    flux = np.array(pairs.flux["R"][:])
    flux[7, 1, 3] += 1e-3
    assert load_pairs(store(tmp_path / "c.zarr", replace(pairs, flux={**pairs.flux, "R": flux}))).digest != first
    other = replace(pairs, label=np.zeros_like(pairs.label))
    assert load_pairs(store(tmp_path / "d.zarr", other)).digest != first
    zarr.open_group(tmp_path / "a.zarr", mode="r+").attrs["digest"] = "the recipe's"
    assert load_pairs(tmp_path / "a.zarr").digest == "the recipe's"


def test_missing_stores_and_arrays_are_named(pairs: PairArrays, tmp_path: Path) -> None:
    with pytest.raises(PairsError, match=r"none.zarr does not exist"):
        load_pairs(tmp_path / "none.zarr")
    path = store(tmp_path / "pairs.zarr", pairs)
    del zarr.open_group(path, mode="r+")["snr_R"]
    with pytest.raises(PairsError, match=r"no store of pairs with arrays .*snr_R"):
        load_pairs(path)
    with pytest.raises(PairsError, match="no store of pairs"):
        load_pairs(tmp_path)


def test_bad_pairs_are_refused(pairs: PairArrays) -> None:
    with pytest.raises(PairsError, match=r"flux of arm R has shape \(4, 3, 10\); it must be"):
        replace(pairs, flux={**pairs.flux, "R": np.ones((4, 3, 10), np.float32)})
    with pytest.raises(PairsError, match=r"lack arm R; there are \['B'\]"):
        replace(pairs, flux={"B": pairs.flux["B"]})
    with pytest.raises(PairsError, match="lack arm B"):
        replace(pairs, snr={"R": pairs.snr["R"]})
    with pytest.raises(PairsError, match=r"flux of arm B has 400 pairs.*must agree"):
        replace(pairs, snr={**pairs.snr, "B": pairs.snr["B"][:-1]})
    with pytest.raises(PairsError, match=r"flux of arm R has 399 pairs.*must agree"):
        replace(pairs, flux={**pairs.flux, "R": pairs.flux["R"][:-1]})
    with pytest.raises(PairsError, match="must agree"):
        replace(pairs, label=pairs.label[:, 0])
    lacking = replace(pairs, split=np.zeros_like(pairs.split))
    for read in (lacking.count, lambda split: list(lacking.parts(split))):
        with pytest.raises(PairsError, match="no pair is of the split 'test'"):
            read(TEST)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pair_that_is_not_finite_is_named(arm: str, value: float, pairs: PairArrays) -> None:
    flux = np.array(pairs.flux[arm][:])
    flux[204, 1, 3] = value  # of the training split
    broken = replace(pairs, flux={**pairs.flux, arm: flux})
    said = f"pair 204 holds flux of arm {arm} that is not finite"
    with pytest.raises(PairsError, match=said):
        list(broken.parts(TRAIN))
    with pytest.raises(PairsError, match=said):
        list(broken.plan(TRAIN, np.random.default_rng(0)).parts())
    assert rows_of(broken.parts(TEST)).size == 100


@pytest.mark.parametrize("array", ["flux_R", "label"])
def test_a_flipped_bit_is_an_error_that_says_where(array: str, pairs: PairArrays, tmp_path: Path) -> None:
    path = store(tmp_path / "pairs.zarr", pairs)
    group = zarr.open_group(path, mode="r+")
    values = np.asarray(group[array])
    del group[array]
    group.create_array(array, data=values, chunks=values.shape, compressors=(ZstdCodec(), Crc32cCodec()))
    group.attrs["digest"] = "the recipe's"  # else all is read at once, to be hashed
    list(load_pairs(path).parts(TRAIN))
    (file,) = (file for file in (path / array / "c").rglob("*") if file.is_file())
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 8
    file.write_bytes(changed)
    said = r"flux of arm R of the pairs from 0 on is damaged" if array == "flux_R" else r"pairs\.zarr is damaged"
    with pytest.raises(PairsError, match=rf"{said} \(Stored and computed checksum.*; synthesize the pairs again"):
        list(load_pairs(path).parts(TRAIN))
    del group.attrs["digest"]
    with pytest.raises(PairsError, match=r"pairs\.zarr is damaged"):
        load_pairs(path)


def part_of(rows: slice, digest: str, **change: object) -> PairArrays:
    """Some of the toy's pairs, as a set of their own; S/N still says which they are."""
    flux = {arm: PAIRS.flux[arm][rows] for arm in ARMS}
    snr = {arm: PAIRS.snr[arm][rows] for arm in ARMS}
    one = PairArrays(flux, PAIRS.label[rows], PAIRS.split[rows], snr, digest)
    return replace(one, **change)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(
    ends=st.lists(st.integers(30, 370), min_size=1, max_size=3, unique=True),
    blocks=st.lists(st.integers(1, 150), min_size=4, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_joined_sets_are_shown_as_one(ends: list[int], blocks: list[int], seed: int) -> None:
    edges = [0, *sorted(ends), len(PAIRS.split)]
    sets = [part_of(slice(*edge), str(at), block=blocks[at]) for at, edge in enumerate(pairwise(edges))]
    whole = join(sets)
    assert whole.digest == "+".join(str(at) for at in range(len(sets)))
    for split in (TRAIN, VALIDATION, TEST):
        mine = np.flatnonzero(PAIRS.split == split)
        assert whole.count(split) == len(mine)
        every = [list(whole.parts(split)), list(whole.plan(split, np.random.default_rng(seed)).parts())]
        for parts in every:
            for part in parts:
                assert_whole(part, PAIRS)
            assert sorted(rows_of(parts).tolist()) == mine.tolist()


def test_of_few_pairs_each_joined_set_has_some() -> None:
    sets = [part_of(slice(0, 200), "a", block=20), part_of(slice(200, None), "b", block=20)]
    shown = rows_of(join(sets).parts(VALIDATION, 6))
    assert (shown < 200).any()
    assert (shown >= 200).any()


def test_a_joined_set_that_is_broken_is_named_with_its_own_rows() -> None:
    sets = [replace(part_of(slice(0, 100), "a"), names=("a.zarr",)), part_of(slice(100, 200), "b")]
    flux = np.array(sets[1].flux["R"][:])
    row = int(np.flatnonzero(sets[1].split == TRAIN)[3])
    flux[row, 0, 5] = np.nan
    broken = replace(sets[1], flux={**sets[1].flux, "R": flux}, names=("b.zarr",))
    with pytest.raises(PairsError, match=rf"^b\.zarr: pair {row} holds flux of arm R that is not finite"):
        list(join([sets[0], broken]).parts(TRAIN))


def test_weights_of_joined_sets_stay_with_their_pairs() -> None:
    light = {head: np.full((200, 2), 0.25, np.float32) for head in HEADS}
    sets = [part_of(slice(0, 200), "a", weight=light, block=64), part_of(slice(200, None), "b", block=64)]
    for part in join(sets).parts(TRAIN):
        for head in HEADS:
            np.testing.assert_array_equal(part.weight[head][:, 0], np.where(rows_of([part]) < 200, 0.25, 1.0))


def test_sets_that_do_not_go_together_are_refused() -> None:
    first = part_of(slice(0, 100), "a")
    with pytest.raises(PairsError, match="are the same"):
        join([first, part_of(slice(100, 200), "a")])
    short = {arm: np.asarray(PAIRS.flux[arm][100:200])[:, :, :-1] for arm in ARMS}
    with pytest.raises(PairsError, match="pixels in B and R"):
        join([first, part_of(slice(100, 200), "b", flux=short)])
    assert join([first]) is first
