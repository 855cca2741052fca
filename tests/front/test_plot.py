"""Pictures of an exposure: what is drawn, and that pyplot is left alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import twinlines as tw
from twinlines.pipeline.spectra.inference import InferenceParameters


@pytest.fixture(scope="module")
def spectra(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    folder = tmp_path_factory.mktemp("plot") / "fits"
    tw.mock_release(folder, stars=30, seed=3)
    return tw.read_lamost(sorted(folder.rglob("*.fits.gz"))[:2])


@pytest.fixture(scope="module")
def verdict(spectra: xr.Dataset, untrained_weights: Path) -> xr.Dataset:
    return tw.judge(spectra, weights=untrained_weights, parameters=InferenceParameters(n_draws=2))


def words(figure: Figure) -> str:
    return " | ".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_lines_correlation_and_words_are_drawn(spectra: xr.Dataset, verdict: xr.Dataset) -> None:
    figure = Figure(figsize=(8.0, 7.0))
    canvas = FigureCanvasAgg(figure)
    row = int(np.flatnonzero(np.isfinite(verdict["pb_pct_B_16"][:, 0]) & np.isfinite(verdict["pb_pct_R_16"][:, 0]))[0])
    blue, red = tw.plot.exposure(spectra.isel(exposure=row), verdict, figure.subplots(2, 1))
    canvas.draw()
    assert (blue.figure, red.figure) == (figure, figure)
    for name, panel, line in (("B", blue, "Mg b₂"), ("R", red, "Hα")):
        text = words(figure)
        assert line in text
        assert f"velocity {float(verdict[f'rv_obs_{name}'][row]):.2f} ±" in text
        (inset,) = panel.child_axes
        assert "correlation" in inset.get_title()
        assert {handle.get_label() for handle in panel.lines} >= {"spectrum"}
    assert len(re.findall(r"binary probability \d\.\d{3} \(", words(figure))) == 2


def test_without_axes_pyplot_makes_them_and_nothing_is_judged_twice(
    spectra: xr.Dataset, verdict: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    before = pyplot.get_fignums()
    blue, _ = tw.plot.exposure(spectra.isel(exposure=[0]), verdict)
    assert isinstance(blue.figure, Figure)
    assert [*before, blue.figure.number] == pyplot.get_fignums()  # type: ignore[attr-defined]
    pyplot.close(blue.figure)
    figure = Figure()
    tw.plot.exposure(spectra.isel(exposure=0), verdict.isel(exposure=0), figure.subplots(1, 2))
    assert pyplot.get_fignums() == before


def test_an_absent_arm_and_a_low_snr_are_said(spectra: xr.Dataset, untrained_weights: Path) -> None:
    ruined = spectra.isel(exposure=[0]).copy(deep=True)
    for name in ("flux", "ivar", "loglam", "snr"):
        ruined[name][0, 1] = np.nan
    ruined["snr"][0, 0] = 3.0
    figure = Figure()
    verdict = tw.judge(ruined, weights=untrained_weights, parameters=InferenceParameters(n_draws=2))
    tw.plot.exposure(ruined, verdict, figure.subplots(2, 1))
    assert "No verdict: no spectrum of this arm" in words(figure)
    assert "No verdict: S/N of 5 or less" in words(figure)
    FigureCanvasAgg(figure).draw()


def test_what_cannot_be_drawn_is_refused(spectra: xr.Dataset, verdict: xr.Dataset) -> None:
    with pytest.raises(ValueError, match=r"exposures; draw one, such as spectra\.isel\(exposure=0\)"):
        tw.plot.exposure(spectra, verdict)
    with pytest.raises(ValueError, match="the verdict has no row of obsid"):
        tw.plot.exposure(spectra.isel(exposure=0), verdict.isel(exposure=[1]))
    with pytest.raises(ValueError, match="there is no penalty 4"):
        tw.plot.exposure(spectra.isel(exposure=0), verdict, penalty=4)
