"""Signals that ask a command to stop: the first is told, a second ends the process, ignored ones stay so."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from twinlines.pipeline.cli import stopping


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in stopping.SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_the_first_signal_is_told_and_a_second_would_end_the_process(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in stopping.SIGNALS]
    with stopping.asked() as stop:
        assert stop.status is None
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert (stop.signal, stop.status) == (number, 128 + number)
        assert {signal.getsignal(each) for each in stopping.SIGNALS} == {signal.SIG_DFL}
    assert [signal.getsignal(each) for each in stopping.SIGNALS] == before


def test_what_nohup_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stopping.asked() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.status is None
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
