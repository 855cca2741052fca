"""Figures' files and texts: names are taken as they are, and a file is what its name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinlines.pipeline.figures import canvas
from twinlines.pipeline.figures.library import nodes_and_spectra
from twinlines.pipeline.library.library import Library


@pytest.mark.parametrize("name", ["gr$id^{$.npz", "one$.npz", "[red] 50 %.npz"])
def test_names_are_no_formulas(tmp_path: Path, name: str) -> None:
    path = canvas.save(nodes_and_spectra(Library.load(), name), tmp_path / "nodes.png", dpi=30)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["hr.pdf", "hr"])
def test_a_name_of_another_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        canvas.FigureError, match=r"is not named .png, and PNG is the format of figures; name it hr.png"
    ):
        canvas.save(canvas.new_figure(1, 1), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(canvas.FigureError, match=r"there is no folder .*none to draw hr.png in"):
        canvas.save(canvas.new_figure(1, 1), tmp_path / "none" / "hr.png")
