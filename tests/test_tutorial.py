"""The tutorial's commands, run: what they print is what its page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.places import ROOT
from tests.tutorial import DOCS, FOLDER, GALLERY, TUTORIAL, PageError, Session, alike, keep, pictures, run_page, steps

PAGE = """# Two steps

```console
$ echo "$PWD has 3 files" &&
>   echo "twinlines: warning: look" >&2 && echo progress >&2
OLD
$ (exit 3)  # exit status 3
```

```pycon
>>> number = 0.25
>>> for _ in range(2):
...     print(f"{number:.3f} in 2.0 s")
...
```

Done.
"""


@pytest.mark.slow
def test_the_tutorial_shows_what_its_commands_print(tmp_path: Path) -> None:
    run_page(TUTORIAL, Session(tmp_path / "first"), compare=True)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_a_page_is_written_with_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    written = run_page(page, Session(tmp_path / "first"), compare=False)
    assert f"{FOLDER} has 3 files\ntwinlines: warning: look\n$ (exit 3)" in written
    assert "...\n0.250 in 2.0 s\n0.250 in 2.0 s\n```\n\nDone." in written
    assert "OLD" not in written
    assert "\nprogress" not in written
    page.write_text(written)
    assert run_page(page, Session(tmp_path / "again"), compare=True) == written
    page.write_text(written.replace(f"{FOLDER} has 3", f"{FOLDER} has 4"))
    with pytest.raises(PageError, match=r"has 3 files(?s:.*)has 4 files"):
        run_page(page, Session(tmp_path / "third"), compare=True)


def test_a_command_that_fails_ends_the_run(page: Path, tmp_path: Path) -> None:
    page.write_text("```console\n$ echo why >&2; exit 4\n```\n")
    with pytest.raises(PageError, match="ends with status 4, not 0:\nwhy"):
        run_page(page, Session(tmp_path / "first"), compare=False)
    page.write_text("```pycon\n>>> 1 / 0\n```\n")
    with pytest.raises(PageError, match="ZeroDivisionError"):
        run_page(page, Session(tmp_path / "first"), compare=False)
    page.write_text("```console\n$ true\n```\n\n![x](figures/tutorial/x.png)\n")
    with pytest.raises(PageError, match=r"x\.png, which none of its commands has drawn"):
        run_page(page, Session(tmp_path / "first"), compare=False)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("3 rows, 17.0 s", "3 rows, 105.5 s", True),
        ("3 rows, 17.0 s", "4 rows, 17.0 s", False),
        ("p 0.998", "p 0.996", True),
        ("p 0.998", "p 0.99", False),
        ("p 0.998", "p 0.993", False),
        ("second-d84dbd487587dea2-zp2d528ba5.zarr", "second-aaaabbbbccccdddd-zp00000fff.zarr", True),
        ("obsid 100004178", "obsid 100004179", False),
        ("one line", "one\nline", True),
        ("│  a │", "│ a │", True),
        ("nan", "0.5", False),
    ],
)
def test_what_counts_as_the_same(shown: str, printed: str, same: bool) -> None:
    assert alike(shown, printed) is same


def test_every_block_of_the_pages_has_commands_and_every_picture_is_kept() -> None:
    for path in (TUTORIAL, GALLERY):
        text = path.read_text()
        blocks = [block for part in text.split("```console\n")[1:] for block in [part.partition("```")[0]]]
        assert sum(len(steps(block)) for block in blocks) > 5
        assert pictures(text)
        assert all((DOCS / picture).is_file() for picture in pictures(text))


def test_pictures_of_the_pages_are_small() -> None:
    kept = [*(DOCS / "figures/tutorial").rglob("*.png"), *(DOCS / "figures/gallery").rglob("*.png")]
    shown = {name for path in ROOT.glob("docs/*.md") for name in pictures(path.read_text())}
    assert {str(path.relative_to(DOCS)) for path in kept} == shown
    assert sum(path.stat().st_size for path in kept) < 1_500_000


def test_a_picture_is_kept_no_wider_than_a_page(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (3000, 600), "white").save(tmp_path / "drawn.png")
    keep(tmp_path / "drawn.png", tmp_path / "kept" / "picture.png")
    with Image.open(tmp_path / "kept" / "picture.png") as image:
        assert image.size == (1000, 200)
