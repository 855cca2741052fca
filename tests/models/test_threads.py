"""The context that computes on one thread: the process gets its threads back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from twinlines.models.threads import one_thread


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_the_threads_come_back() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_they_come_back_after_an_error() -> None:
    @one_thread()
    def fail() -> None:
        assert torch.get_num_threads() == 1
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            fail()
        assert torch.get_num_threads() == 3


def test_threads_of_the_process_do_not_disturb_each_other() -> None:
    def work(_: int) -> set[int]:
        torch.ones(2)  # which makes this thread's own number
        seen = set()
        for _ in range(50):
            with one_thread():
                seen.add(torch.get_num_threads())
        return seen

    with ThreadPoolExecutor(4) as pool:
        assert set().union(*pool.map(work, range(8))) == {1}
    assert torch.get_num_threads() == 3
