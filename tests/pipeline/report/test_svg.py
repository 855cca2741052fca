"""Pictures as SVG text: well-formed, without numbers that a browser would not take, and never a stranger's markup."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlines.pipeline.report.svg import Chart, sparkline, ticks, within

NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32)


def _parsed(text: str) -> ElementTree.Element:
    assert "nan" not in text
    assert "inf" not in text
    return ElementTree.fromstring(text)


@given(st.lists(NUMBERS, min_size=2, max_size=30))
def test_whatever_is_drawn_is_well_formed(values: list[float]) -> None:
    x = np.arange(float(len(values)))
    y = np.array(values)
    y[np.abs(y) > 1e6] = np.nan
    chart = Chart(within(x), within(y), what="all of it")
    chart.line(x, y, "flux")
    chart.points(x, y, "star1", error=0.1, x_error=0.2)
    chart.level(0.0, "guide")
    _parsed(chart.svg())


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low: float, span: float) -> None:
    places = ticks(low, low + span)
    assert 1 <= len(places) <= 7
    assert (places >= low - 1e-6 * (abs(low) + span)).all()
    assert (places <= low + span + 1e-6 * (abs(low) + span)).all()


def test_a_curve_breaks_where_it_has_no_value() -> None:
    chart = Chart((0.0, 4.0), (0.0, 1.0), what="broken")
    chart.line([0, 1, 2, 3, 4], [0.5, 0.5, np.nan, 0.5, 0.5], "flux")
    assert chart.svg().count("<polyline") == 2


def test_what_is_larger_stands_higher_and_what_is_later_farther_right() -> None:
    chart = Chart((0.0, 10.0), (0.0, 10.0), what="order")
    assert chart.at_y(9.0) < chart.at_y(1.0)
    assert chart.at_x(9.0) > chart.at_x(1.0)
    turned = Chart((360.0, 0.0), (0.0, 1.0), what="right ascension")
    assert turned.at_x(300.0) < turned.at_x(10.0)


def test_names_are_text_and_never_markup() -> None:
    chart = Chart((0.0, 1.0), (0.0, 1.0), what='<script>alert("x")</script>')
    chart.aside(0.5, "<b>")
    chart.points([0.5], [0.5], "star1", titles=["</title><script>"])
    text = chart.svg()
    assert "<script" not in text
    assert _parsed(text).attrib["aria-label"] == '<script>alert("x")</script>'


@pytest.mark.parametrize("values", [[], [np.nan] * 9, [1.0]])
def test_nothing_makes_no_sparkline(values: list[float]) -> None:
    assert sparkline(values, "nothing") == ""
