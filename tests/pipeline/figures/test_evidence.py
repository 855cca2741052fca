"""The figure of the evidence: points where the numbers are, also where there are hardly any."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twinlines.models.evaluation import binned
from twinlines.pipeline.figures.evidence import draw, evidence_figure

FOUND = np.array([[1.0, 0.5, 0.4, 0.6], [2.0, 0.8, 0.7, 0.85]])


def test_points_are_the_fractions_by_probability() -> None:
    rng = np.random.default_rng(1)
    told = rng.uniform(size=500)
    bins = binned(told, rng.uniform(size=500) < told, (0.0, 0.1, 0.5, 1.0))
    figure = draw(bins, FOUND, 0.5)
    left, right = figure.axes
    assert left.get_title() == "Stars by probability, prevalence 0.5"
    points = next(line for line in left.get_lines() if line.get_marker() == "o")
    np.testing.assert_allclose(np.asarray(points.get_xdata(), float), [each.mean for each in bins])
    np.testing.assert_allclose(np.asarray(points.get_ydata(), float), [each.rate.value for each in bins])
    assert [text.get_text() for text in left.texts] == [str(each.rate.trials) for each in bins]
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), FOUND[:, 1])


def test_empty_bins_are_left_out(tmp_path: Path) -> None:
    bins = binned(np.array([0.01, 0.99]), np.array([0, 1]), (0.0, 0.1, 0.5, 1.0))
    path = evidence_figure(bins, FOUND[:1], 0.1, tmp_path / "evidence.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    points = next(line for line in draw(bins, FOUND, 0.1).axes[0].get_lines() if line.get_marker() == "o")
    assert points.get_ydata().tolist() == [0.0, 1.0]
