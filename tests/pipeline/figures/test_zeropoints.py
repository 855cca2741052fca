"""The figure of zero points: what is drawn, also of a table in which there is nothing."""

from __future__ import annotations

import numpy as np

from twinlines.pipeline.figures import zeropoints
from twinlines.pipeline.schema import ZERO_POINTS, ZeroPointReason


def test_each_arm_has_its_panels_and_each_spectrograph_its_points() -> None:
    units = 24
    zero = np.random.default_rng(0).normal(0, 2, (units, 2))
    zero[3, 1] = np.nan
    columns = {
        "spid": np.arange(units) % 3 + 1,
        "lmjm": 84_000_000 + 30 * np.arange(units),
        "zero_point": zero,
        "error": np.full((units, 2), 0.3),
    }
    figure = zeropoints.draw(ZERO_POINTS.dataset(columns, units))
    assert [panel.get_title() for panel in figure.axes] == [
        "Blue arm: 24 zero points", "", "Red arm: 23 zero points; 1 units have none", ""
    ]  # fmt: skip
    for panel in (figure.axes[0], figure.axes[1]):
        drawn = np.concatenate([line.get_ydata() for line in panel.get_lines() if line.get_marker() in "osD"])
        np.testing.assert_allclose(np.sort(drawn), np.sort(zero[:, 0]), rtol=1e-6)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1", "2", "3"]


def test_a_table_without_zero_points_is_drawn_too() -> None:
    empty = ZERO_POINTS.dataset({"lmjm": [84_000_000], "reason": np.full((1, 2), ZeroPointReason.FEW_STARS)}, 1)
    figure = zeropoints.draw(empty)
    figure.canvas.draw()
    assert figure.axes[0].get_title() == "Blue arm: 0 zero points; 1 units have none"
