"""Which rows of a folder a release keeps, against dictionaries; and how much memory settling that takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinlines.pipeline.ingest import settling
from twinlines.pipeline.ingest.index import Index
from twinlines.pipeline.ingest.settling import settle


@pytest.fixture(autouse=True, scope="module", params=[1, 1 << 17], ids=["small blocks", "one block"])
def _blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is settled must not depend on where blocks end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settling, "BLOCK_ROWS", request.param)
        yield


def an_index(rows: list[tuple[int, int, int]]) -> Index:
    """An index of one row per file, with the given (obsid, lmjm, content), all of one star."""
    return Index.of([(number, *row, 5, 10.0, 20.0, number - 1) for number, row in enumerate(rows)], (), ())


def columns_of(index: Index) -> dict[str, NDArray[Any]]:
    """Columns of an index as a release has them."""
    about = {"spid": index.fibre >> 15, "fiberid": index.fibre & 0x7FFF}
    return {**about, **{name: getattr(index, name) for name in ("obsid", "lmjm", "content_hash", "ra", "dec")}}


some_rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), max_size=30)


@given(some_rows)
def test_first_file_wins(rows: list[tuple[int, int, int]]) -> None:
    first: dict[tuple[int, int], int] = {}
    duplicates, conflicts = 0, []
    for n, (obsid, lmjm, content) in enumerate(rows):
        winner = first.setdefault((obsid, lmjm), n)
        if winner != n and rows[winner][2] == content:
            duplicates += 1
        elif winner != n:
            conflicts.append([winner, n])
    settled = settle(an_index(rows), [])
    assert np.flatnonzero(settled.kept).tolist() == sorted(first.values())
    assert settled.duplicates == duplicates
    assert settled.conflicts.tolist() == conflicts
    assert np.array_equal(settled.new, settled.kept)
    assert not settled.changed.any()


@given(some_rows, some_rows, some_rows)
def test_rows_are_compared_with_the_newest_known_ones(
    old: list[tuple[int, int, int]], newer: list[tuple[int, int, int]], asked: list[tuple[int, int, int]]
) -> None:
    newest: dict[tuple[int, int], int] = {}
    parts = []
    for rows in (old, newer):
        unique = {(a, b): c for a, b, c in rows}  # a release has a key once
        newest |= unique
        parts.append(columns_of(an_index([(a, b, c) for (a, b), c in unique.items()])))
    settled = settle(an_index(asked), parts)
    first = [(a, b) not in {(x, y) for x, y, _ in asked[:n]} for n, (a, b, _) in enumerate(asked)]
    assert settled.kept.tolist() == first
    assert settled.new.tolist() == [k and (a, b) not in newest for k, (a, b, _) in zip(first, asked, strict=True)]
    assert settled.changed.tolist() == [
        k and newest.get((a, b), c) != c for k, (a, b, c) in zip(first, asked, strict=True)
    ]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), max_size=20),
    st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(0, 3)),
)
def test_files_without_strangers_have_one_star_a_key(
    rows: list[tuple[int, int, int]], known: dict[tuple[int, int], int]
) -> None:
    """Files of two rows, each of one star: those that stay agree, and each that goes disagrees with one that stays."""
    every = [
        (number // 2, obsid, lmjm, 0, rows[number - number % 2][2], 0.0, 0.0, 0)
        for number, (obsid, lmjm, _) in enumerate(rows)
    ]
    index = Index.of(every, (), ())
    release = Index.of([(0, *key, 0, fibre, 0.0, 0.0, 0) for key, fibre in known.items()], (), ())
    settled = settle(index, [columns_of(release)])
    stars, of_file = dict(known), dict.fromkeys(known, -1)
    expected = []
    for file in sorted({each[0] for each in every}):
        own = [each for each in every if each[0] == file]
        against = [of_file[each[1], each[2]] for each in own if stars.get((each[1], each[2]), each[4]) != each[4]]
        if against:
            expected.append((file, against[0] < 0))
        else:
            for each in own:
                stars.setdefault((each[1], each[2]), each[4])
                of_file.setdefault((each[1], each[2]), file)
    assert [(int(index.file[each.row]), each.other < 0) for each in settled.strangers] == expected
    assert settled.strange.tolist() == [each[0] in dict(expected) for each in every]
    assert not (settled.strange & settled.kept).any()


def test_positions_tell_stars_apart_across_the_meridian() -> None:
    rows = [(n, 7, 9, 1, 5, ra, 60.0, 0) for n, ra in enumerate((359.999, 0.001, 0.02, np.nan))]
    (stranger,) = settle(Index.of(rows, (), ()), []).strangers
    assert (stranger.row, stranger.other, stranger.fibre) == (2, 0, 5)
    assert (stranger.ra, stranger.dec) == (np.float32(359.999), 60.0)


def test_the_client_holds_less_than_a_hundred_bytes_a_row() -> None:
    """Of a folder that a release has already, which is the most; the index included, its making as well."""
    rows, obsid = 200_000, np.random.default_rng(1).permutation(200_000)
    batch = {
        "file": np.arange(1000, dtype=np.int32),
        **{name: np.zeros(1000, np.int32) for name in ("lmjm", "fibre")},
        **{name: np.zeros(1000, np.float32) for name in ("ra", "dec")},
        "kept": np.full(1000, -1),
    }

    def batches() -> Iterator[tuple[int, Index]]:
        for first in range(0, rows, 1000):
            mine = obsid[first : first + 1000]
            yield first, Index(**batch, obsid=mine, content_hash=mine.astype(np.uint64), quarantined=(), warnings=())

    def pieces() -> Iterator[dict[str, NDArray[Any]]]:
        for _, index in batches():
            yield columns_of(index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settling, "BLOCK_ROWS", 1000)
        tracemalloc.start()
        try:
            settled = settle(Index.concatenate(batches(), rows), pieces())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (int(settled.kept.sum()), int(settled.new.sum()), int(settled.changed.sum())) == (rows, 0, 0)
    assert peak < 100 * rows
