"""What the documents say of names and numbers that the code owns."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.houses import MODULES, ROOMS
from tests.places import ROOT
from twinlines.pipeline.binaries.schema import FITS, FitQuality
from twinlines.pipeline.schema import CATALOG, FATAL, TABLE4, TRACKS, ZERO_POINTS, Quality, ZeroPointReason
from twinlines.pipeline.stars.tracks import TrackReason


def test_the_catalog_s_page_lists_its_columns() -> None:
    rows = re.findall(r"^\| *(\d*) \| `(\w+)` \| ([^|]+) \| ([^|]+) \|", (ROOT / "docs/catalog.md").read_text(), re.M)
    assert [name for _, name, _, _ in rows] == [*TABLE4, *(name for name in CATALOG.variables if name not in TABLE4)]
    for number, (_, name, dtype, unit) in enumerate(rows, start=1):
        variable = CATALOG.variables[name]
        assert dtype.split()[0] == variable.dtype, name
        assert unit == (variable.units or "-"), name
        assert rows[number - 1][0] == (str(number) if number <= len(TABLE4) else "")


def test_the_catalog_s_page_lists_the_quality_bits() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (fatal)? ?\|", (ROOT / "docs/catalog.md").read_text(), re.M)
    assert [(name, int(value), bool(fatal)) for name, value, fatal in rows] == [
        (bit.name, bit.value, bool(bit & FATAL)) for bit in Quality
    ]


def test_the_binaries_page_lists_columns_and_bits() -> None:
    text = (ROOT / "docs/binaries.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]+) \| ([^|]+) \|$", text, re.M)
    expected = [(name, x.dtype, x.units or "-", x.long_name) for name, x in FITS.variables.items()]
    assert rows == expected
    bits = re.findall(r"^\| `(\w+)` \| (\d+) \| [^|]+ \|$", text, re.M)
    assert [(name, int(value)) for name, value in bits] == [(bit.name, bit.value) for bit in FitQuality]


def test_the_tracks_page_lists_every_reason() -> None:
    rows = re.findall(r"^\| (`[A-Z_`, ]+) \| ([\d, ]+) \|", (ROOT / "docs/tracks.md").read_text(), re.M)
    listed = [pair for names, codes in rows for pair in zip(names.split(", "), codes.split(", "), strict=True)]
    assert listed == [(f"`{reason.name}`", str(reason.value)) for reason in TrackReason]


def test_the_tracks_page_names_what_is_stored() -> None:
    text = (ROOT / "docs/tracks.md").read_text()
    assert all(f"`{name}`" in text for name in TRACKS.variables)


def test_the_zero_points_page_lists_what_is_stored_and_every_reason() -> None:
    text = (ROOT / "docs/zeropoints.md").read_text()
    assert all(f"`{name}`" in text for name in ZERO_POINTS.variables)
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", text, re.M)
    assert [(name, int(code)) for name, code in rows] == [(reason.name, reason.value) for reason in ZeroPointReason]


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("[mp]*/**/README.md")]
    assert len(pages) >= 6
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_architecture_s_page_shows_every_room_in_its_order() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    shown = re.findall(r"^ {6}(\w+)/ +\S", text, re.MULTILINE)
    assert [room for room in shown if room in ROOMS] == list(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_and_room_says_what_it_is_for(path: Path) -> None:
    lines = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
    assert lines, "a module's first line says what it is for"
    assert len(lines[0]) >= 20
    assert lines[0].endswith((".", ":", "?"))
