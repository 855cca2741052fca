"""The report in a real browser: opened from a file, sorted, filtered, vetted by keys alone, at desk and on a phone."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twinlines.pipeline.report.vetting import read_vetted

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
api = pytest.importorskip("playwright.sync_api", reason="playwright, of the extra 'test', is not installed")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt-get install chromium"),
    pytest.mark.filterwarnings(  # untrained networks are not those that evidence was calibrated with
        "ignore:the catalog is of the weights:twinlines.pipeline.binaries.sources.survey.CalibrationWarning"
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with api.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=root)
        yield running
        running.close()


@pytest.fixture(params=[(1280, 900, "light"), (390, 844, "dark")], ids=["desk", "phone"])
def opened(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Any]:
    width, height, colours = request.param
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=colours, accept_downloads=True, offline=True
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(("file:", "blob:")) else None)
    page.goto(report.as_uri())
    yield page
    assert wrong == []
    context.close()


def _column(page: Any, name: str) -> list[float]:
    shown = page.eval_on_selector_all(
        "#stars tbody tr:not([hidden])", f"rows => rows.map(row => parseFloat(row.dataset['{name}']))"
    )
    return [float(value) for value in shown]


def test_it_fits_the_screen(opened: Any) -> None:
    for anchor in ("", opened.get_attribute("section.star", "id")):
        opened.evaluate("anchor => { location.hash = anchor }", anchor)
        opened.wait_for_timeout(100)
        assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.locator("section.star:visible svg").count() >= 5
    picture = opened.screenshot()
    assert len(picture) > 20_000  # an empty page is a few thousand bytes


def test_the_table_is_sorted_and_filtered(opened: Any) -> None:
    before = _column(opened, "obsid" if opened.locator("[data-obsid]").count() else "p")
    assert len(before) > 1
    opened.click("th[data-name=epochs] button")
    down = _column(opened, "epochs")
    assert down == sorted(down, reverse=True)
    opened.click("th[data-name=obsid] button")
    opened.click("th[data-name=obsid] button")
    assert _column(opened, "obsid") == sorted(before)
    opened.fill("#filter", str(int(before[0])))
    assert _column(opened, "obsid") == [before[0]]
    opened.fill("#filter", "double>=99")
    assert _column(opened, "obsid") == []
    opened.fill("#filter", "nonsense")
    assert "is no condition" in opened.text_content("#shown")


def test_stars_are_vetted_by_keys_alone_and_the_list_is_read_back(opened: Any, survey: Path, tmp_path: Path) -> None:
    order = [int(value) for value in _column(opened, "obsid")]
    for step, key in enumerate(("a", "r")):
        opened.keyboard.press("j")
        opened.wait_for_function(f"location.hash === '#star-{order[step]}'")
        opened.keyboard.press(key)
    opened.keyboard.press("u")  # another verdict takes the place of the first
    opened.locator("section.star:visible textarea").fill('blended, "perhaps"')
    opened.keyboard.press("Tab")
    opened.evaluate("document.activeElement.blur()")
    opened.keyboard.press("k")
    opened.wait_for_function(f"location.hash === '#star-{order[0]}'")
    assert opened.locator("section.star:visible [data-verdict=accept]").get_attribute("aria-pressed") == "true"
    opened.keyboard.press("Escape")
    opened.wait_for_selector("#stars:visible")
    with opened.expect_download() as coming:
        opened.click("[data-save]")
    path = tmp_path / "vetted.csv"
    coming.value.save_as(path)
    with path.open() as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["accept", "unsure"]
    found = read_vetted(survey, path)
    assert [(star["obsid"], star["verdict"]) for star in found.stars] == [(order[0], "accept"), (order[1], "unsure")]
    assert found.stars[1]["comment"] == 'blended, "perhaps"'
    assert found.other_catalogs == 0
    opened.reload()
    assert opened.text_content("#stars tbody tr .verdict") == "accept"
