"""Figures: drawn without pyplot, whatever is missing, with units on their axes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.figures import canvas, demo
from twinlines.pipeline.mock.showpiece import Epoch

RNG = np.random.default_rng(0)


def epoch(label: str, velocities: tuple[float, ...]) -> Epoch:
    return Epoch(
        label=label,
        flux={name: RNG.normal(1.0, 0.05, ARMS[name].n_pixels).astype(np.float32) for name in ARM_NAMES},
        probability={"B": 0.93, "R": np.nan},
        velocities={"B": velocities, "R": velocities},
    )


def labels(figure: Figure) -> list[str]:
    return [text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel()) if text]


def test_epochs_of_a_star_are_drawn_with_their_probabilities(tmp_path: Path) -> None:
    figure = demo.epochs("KIC 1", [epoch("first", (0.0, 150.0)), epoch("second", (0.0,))])
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert shown.count("binary probability 0.93") == 2
    assert {"first", "second"} < set(shown)
    # Where the second star's H-alpha is expected: 150 km/s redward.
    ticks = [line.get_segments() for line in figure.axes[1].collections]
    assert ticks[-1][0][0][0] == pytest.approx(6564.61 * (1.0 + 150.0 / 299792.458))
    path = canvas.save(figure, tmp_path / "epochs.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no epoch of KIC 1"):
        demo.epochs("KIC 1", [])


def test_probabilities_leave_out_what_is_missing(tmp_path: Path) -> None:
    kind = np.array(["SB2", "SB2", "single", "giant", "SB1", "SB2"])
    separation = np.array([10.0, 200.0, np.nan, np.nan, np.nan, 50.0])
    snr = {name: np.array([5.0, 20.0, 50.0, 10.0, 30.0, np.nan]) for name in ARM_NAMES}
    probability = {name: np.array([0.1, 0.99, 0.01, 0.0, 0.2, np.nan]) for name in ARM_NAMES}
    figure = demo.probability_by_separation(kind, separation, snr, probability)
    drawn = [len(points.get_offsets()) for axes in figure.axes[:4] for points in axes.collections]
    assert sum(drawn) == 10
    assert any("km/s" in label for label in labels(figure))
    canvas.save(figure, tmp_path / "figure.png")


@pytest.mark.parametrize("known", [True, False])
def test_velocity_residuals_are_summarised(tmp_path: Path, known: bool) -> None:
    residual = RNG.normal(0.3, 0.5, 400)
    residual[:3] = [80.0, -90.0, np.nan]
    columns = {name: residual if known else np.full(400, np.nan) for name in ARM_NAMES}
    other = {name: np.geomspace(5.0, 100.0, 400) for name in ARM_NAMES}
    figure = demo.velocity_residuals(other, columns, other)
    summary = [line for axes in figure.axes for line in axes.get_title().splitlines()[1:]]
    assert bool(summary) == known
    if known:
        assert summary[0].startswith("399 exposures: median +0.3")
        assert "2 beyond the axis" in summary[0]
    assert "Measured − true velocity (km/s)" in labels(figure)
    canvas.save(figure, tmp_path / "figure.png")


def test_pyplot_is_not_imported() -> None:
    code = "import sys, twinlines.pipeline.figures.demo; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
