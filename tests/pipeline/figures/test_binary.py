"""The page of one binary: several periods, one, none; without spectra, and with those of a mock star."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.pipeline.binaries.sources.test_source import GAMMA, PERIOD, TIMES, rows_of
from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.orbits.sampler import Sampling
from twinlines.pipeline.binaries.orbits.solution import Fitting
from twinlines.pipeline.binaries.sources.binary import Binary, solve_binary
from twinlines.pipeline.figures.binary import binary
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.testing.exposures import random_arm

QUICK = Fitting(sampling=Sampling(prior_samples=4096, more_prior_samples=16384, peaks=48, draws=1024, kept=128))


def star(times: Sequence[float], snr: float = 0.0) -> Binary:
    """A made-up star; its spectra are noise."""
    catalog, fits = rows_of(times)
    count = len(times)
    columns = {name: catalog[name].values for name in ("obsid", "lmjm", "bjdmid", "ra", "dec", "content_hash")}
    columns["snr"] = np.full((count, 2), snr)
    if snr:
        for place in range(count):
            for number, arm in enumerate(ARM_NAMES):
                made = random_arm(place, arm)
                for name in ("flux", "ivar", "loglam", "mask"):
                    values = np.asarray(getattr(made, name))
                    columns.setdefault(name, EXPOSURES.variables[name].empty(EXPOSURES.shape(name, count)))
                    columns[name][place, number, : len(values)] = values
    return solve_binary(EXPOSURES.dataset(columns, count), fits, fitting=QUICK)


def lines_of(figure: Figure) -> list[str]:
    return [panel.get_title(loc="left") for panel in figure.axes]


def test_an_orbit_that_is_known_is_drawn_with_its_samples(tmp_path: Path) -> None:
    source = star(TIMES)
    figure = binary(source)
    figure.savefig(tmp_path / "binary.png")
    titles = lines_of(figure)
    assert titles[1].startswith("P = 4.30")
    assert "q = 0.7" in titles[2] or "q = 0.8" in titles[2]
    assert "of the posterior" in titles[3]
    curve = figure.axes[1]
    # The largest velocity of star 1 is at phase 0, and points lie on the curve.
    best = source.elements([0])
    first, second = best.velocities(source.epochs.time)
    resolved = source.epochs.resolved
    np.testing.assert_allclose(source.epochs.velocity[resolved, 0], first[0][resolved], atol=4.0)
    np.testing.assert_allclose(source.epochs.velocity[resolved, 1], second[0][resolved], atol=4.0)
    phase = source.phase(source.epochs.time)
    high = source.epochs.velocity[:, 0] > GAMMA + 55.0
    assert (np.minimum(phase[high], 1.0 - phase[high]) < 0.12).all()
    assert len(curve.lines) > 40
    assert "no spectrum of this arm" in [text.get_text() for text in figure.axes[0].texts]


def test_several_periods_are_drawn_with_their_probabilities(tmp_path: Path) -> None:
    source = star((PERIOD * np.array([0.2, 33.3, 80.75, 121.2])).tolist())
    assert source.solutions.sizes["solution"] > 1
    figure = binary(source)
    figure.savefig(tmp_path / "binary.png")
    assert lines_of(figure)[3].startswith(f"Period: {int(source.solutions['modes'][0])} modes")
    (stems,) = figure.axes[3].collections
    heights = [segment[1][1] for segment in stems.get_segments()]
    np.testing.assert_allclose(heights, source.solutions["mode_probability"].values)


def test_one_epoch_is_drawn_with_what_it_limits(tmp_path: Path) -> None:
    figure = binary(star([0.25 * PERIOD]))
    figure.savefig(tmp_path / "binary.png")
    assert "Mass ratio: not bounded" in lines_of(figure)
    (words,) = (text.get_text() for text in figure.axes[3].texts)
    assert words.startswith("1 epochs with two velocities, on 1 nights:")


def test_spectra_stand_in_the_order_of_phase_and_not_too_many() -> None:
    source = star(TIMES[:8], snr=30.0)
    panel = binary(source, most=5, arm="R").axes[0]
    labels = [tick.get_text() for tick in panel.get_yticklabels()]
    phases = [float(label.split()[1]) for label in labels]
    assert len(phases) == 5
    assert phases == sorted(phases, reverse=True)  # from the bottom up
    for wrong, message in (({"arm": "G"}, "no arm is called 'G'"), ({"most": 0}, "0 spectra are to be drawn")):
        with pytest.raises(ValueError, match=message):
            binary(source, **wrong)  # type: ignore[arg-type]
