"""Rows found by a key."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twinlines.pipeline.lookup import NOWHERE, places_of

numbers = st.lists(st.integers(-5, 5), max_size=12)


@given(numbers, numbers)
def test_places_are_those_of_lists(wanted: list[int], among: list[int]) -> None:
    found = places_of(np.array(wanted, np.int64), np.array(among, np.int64))
    assert found.tolist() == [among.index(each) if each in among else NOWHERE for each in wanted]


def test_keys_may_have_several_parts() -> None:
    kind = np.dtype([("obsid", "<i8"), ("lmjm", "<i4")])
    among = np.array([(2, 1), (1, 2), (1, 1)], kind)
    assert places_of(np.array([(1, 1), (2, 2), (2, 1)], kind), among).tolist() == [2, NOWHERE, 0]
