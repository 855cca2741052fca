"""Runs the commands of pages that show what they print, and compares, or writes the pages anew.

    python -m tests.tutorial                    # docs/tutorial.md, as the slow test does
    python -m tests.tutorial --write            # what is shown, and the pictures, as they are now
    python -m tests.tutorial --write --gallery  # docs/gallery.md, too: its pictures are of the tutorial's survey

A page's blocks ``console`` hold commands after ``$``, which run in order, in bash, in one folder, and blocks ``pycon``
statements after ``>>>``, which share their names within a block; what they print stands below each. A command that ends
otherwise than the page says, by ``# exit status N`` at its end, ends the run. Pictures ``figures/tutorial/NAME`` and
``figures/gallery/NAME`` are the file ``NAME`` of that folder.

What is shown is what a terminal of 100 columns shows: standard output, then the messages ``twinlines: ...``; bars of
progress are left out, and the folder is called ``/home/you/first``. What is compared is that without line ends, keys
(eight and more hexadecimal digits), times (``s``, ``min``) and sizes (``bytes``, ``MB``); numbers with a decimal point
may differ by three in the last digit, as they may on another CPU.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.places import ROOT

DOCS = ROOT / "docs"
TUTORIAL, GALLERY = DOCS / "tutorial.md", DOCS / "gallery.md"
COLUMNS = 100
FOLDER = "/home/you/first"
"""What the folder in which commands run is called on pages."""

_BLOCK = re.compile(r"^```(console|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"\]\((figures/(?:tutorial|gallery)/([\w/.-]+\.png))\)")
_STATUS = re.compile(r"# exit status (\d+)")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MASKS = (
    (re.compile(r"\b(zp)?(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"), "KEY"),
    (re.compile(r"\b\d+(\.\d+)? (s|min|bytes|kB|MB)\b"), "TIME-OR-SIZE"),
    (re.compile(r"[─━═]+"), "─"),
    (re.compile(r"\s+"), " "),
)
_NUMBER = re.compile(r"\d+\.\d+|\d+")
_LAST_DIGITS = 3
_PYTHON = """
import json, sys
for statement in json.load(sys.stdin):
    try:
        exec(compile(statement, "<page>", "single"))
    finally:
        print("\\x00", flush=True)
"""


class PageError(RuntimeError):
    """A page cannot be run."""


@dataclass(frozen=True)
class Step:
    """One command of a page, or one statement, and what the page shows below it."""

    source: str
    """As the page has it, with ``$`` or ``>>>``; lines that follow are marked by ``>`` or ``...``."""
    shown: str
    """Lines below it."""

    @property
    def text(self) -> str:
        """What is run."""
        return re.sub(r"^(\$|>>>|\.\.\.|>) ?", "", self.source, flags=re.MULTILINE)

    @property
    def status(self) -> int:
        """Exit status that the page says."""
        said = _STATUS.search(self.source)
        return int(said.group(1)) if said else 0


def steps(block: str) -> list[Step]:
    """The steps of a block."""
    found: list[Step] = []
    source: list[str] = []
    shown: list[str] = []
    for line in block.splitlines():
        starts = re.match(r"(\$|>>>) ", line)
        follows = re.match(r"(>|\.\.\.)( |$)", line) and source and not shown
        if starts and source:
            found.append(Step("\n".join(source), "\n".join(shown)))
            source, shown = [], []
        (source if starts or follows else shown).append(line)
    if not source:
        raise PageError(f"a block has no command: {block[:60]!r}")
    return [*found, Step("\n".join(source), "\n".join(shown))]


def alike(shown: str, printed: str) -> bool:
    """Whether what a page shows is what was printed, but for what may differ from run to run."""
    for pattern, mask in _MASKS:
        shown, printed = pattern.sub(mask, shown), pattern.sub(mask, printed)
    if _NUMBER.sub("0", shown.strip()) != _NUMBER.sub("0", printed.strip()):
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    return all(_near(one, other) for one, other in pairs)


_KEY = re.compile(r"[0-9a-f]{8,}")  # of a run, a catalog, or zero points


def _near(one: str, other: str) -> bool:
    decimals = len(one.partition(".")[2])
    if decimals == 0 or decimals != len(other.partition(".")[2]):
        return one == other
    return abs(float(one) - float(other)) <= (_LAST_DIGITS + 0.5) * 10.0**-decimals


class Session:
    """A folder in which commands run one after the other, as in a terminal.

    Parameters
    ----------
    folder
        Where; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()

    def run(self, kind: str, these: list[Step]) -> Iterator[tuple[Step, str]]:
        """Run the steps of a block; yields each with what it printed."""
        if kind == "console":
            for step in these:
                print(step.source, file=sys.stderr, flush=True)
                yield step, self._command(step)
        else:
            yield from zip(these, self._python(these), strict=True)

    def _environment(self) -> dict[str, str]:
        commands = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": str(COLUMNS),
            "LINES": "50",
            "TERM": "xterm",
            "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8",
            "MPLBACKEND": "agg",
            "TWINLINES": str(ROOT),
        }

    def _command(self, step: Step) -> str:
        """Run one command, its standard output a terminal's; returns what is to be shown."""
        terminal, end = pty.openpty()
        with tempfile.TemporaryFile("w+") as messages:
            process = subprocess.Popen(
                ["bash", "-c", step.text],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=end,
                stderr=messages,
            )
            os.close(end)
            printed = b""
            try:
                while part := os.read(terminal, 65536):
                    printed += part
            except OSError:  # how Linux says that nobody writes to a terminal any more
                pass
            finally:
                os.close(terminal)
            status = process.wait()
            messages.seek(0)
            said = messages.read()
        if status != step.status:
            raise PageError(f"{step.text}\nends with status {status}, not {step.status}:\n{said}")
        lines = [line for line in said.splitlines() if line.startswith("twinlines: ")]
        return self.shown(printed.decode().replace("\r\n", "\n") + "\n".join(lines))

    def _python(self, these: list[Step]) -> list[str]:
        import json

        statements = [step.text + "\n" for step in these]
        done = subprocess.run(
            [sys.executable, "-c", _PYTHON],
            input=json.dumps(statements),
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PageError(f"{statements}\nfails:\n{done.stderr}")
        return [self.shown(part) for part in done.stdout.split("\x00\n")[:-1]]

    def shown(self, printed: str) -> str:
        """What is printed as pages show it: without colours, the folder by its page's name, folded at 100 columns."""
        text = _ANSI.sub("", printed).replace(str(self.folder), FOLDER)
        lines: list[str] = []
        for line in text.expandtabs().rstrip("\n").splitlines():
            folded = textwrap.wrap(line, COLUMNS, break_long_words=False, break_on_hyphens=False)
            lines += folded if len(line) > COLUMNS and line[:1] not in "┃│┏┌" else [line.rstrip()]
        return "\n".join(lines).strip("\n")


def run_page(page: Path, session: Session, *, compare: bool, start: str = "") -> str:
    """Run a page; returns it with what its commands printed.

    Parameters
    ----------
    page
        The page. If nothing is compared, it is written anew after each block.
    session
        Where its commands run.
    compare
        Whether what the page shows is to be what is printed.
    start
        A part of the page's text, such as a heading; blocks before it are left as they are, and have run before.

    Raises
    ------
    PageError
        If a command fails or a picture is not drawn; with ``compare``, also if what the page shows is not what was
        printed.
    """
    text = page.read_text()
    end = text.index(start)
    written = text[:end]
    for block in _BLOCK.finditer(text, end):
        kind, lines = block.group(1), []
        for step, printed in session.run(kind, steps(block.group(2))):
            if compare and not alike(step.shown, printed):
                raise PageError(
                    f"{page.name}: {step.text}\nprints\n{printed}\n\nthe page shows\n{step.shown}\n\n"
                    "'python -m tests.tutorial --write' writes it anew"
                )
            if alike(step.shown, printed) and (compare or _KEY.findall(step.shown) == _KEY.findall(printed)):
                printed = step.shown  # other times are no other page; keys of an ensemble are all of the same one
            lines += [step.source, *([printed] if printed else [])]
        written += text[end : block.start()] + f"```{kind}\n" + "\n".join(lines) + "\n```"
        end = block.end()
        if not compare:
            page.write_text(written + text[end:])
    for name in pictures(text[text.index(start) :]).values():
        if not (session.folder / name).is_file():
            raise PageError(f"{page.name} shows {name}, which none of its commands has drawn")
    return written + text[end:]


def pictures(text: str) -> dict[str, str]:
    """Pictures of a page: path below docs/ by file in the folder of its commands."""
    return dict(_PICTURE.findall(text))


def keep(drawn: Path, picture: Path, *, width: int = 1000, colours: int = 160) -> None:
    """Keep a picture beside the pages: no wider than they are, and of few colours."""
    from PIL import Image

    picture.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(drawn) as opened:
        image = opened.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(picture, optimize=True)


def main() -> None:
    """Run the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write pages and pictures anew")
    parser.add_argument("--gallery", action="store_true", help="run docs/gallery.md, too")
    parser.add_argument("--only-gallery", action="store_true", help="in a folder in which the tutorial has run")
    parser.add_argument("--folder", type=Path, help="where commands run; what they make stays there")
    parser.add_argument("--start", default="", help="heading in the first page from which on commands run, in --folder")
    asked = parser.parse_args()
    chosen = [*([] if asked.only_gallery else [TUTORIAL]), *([GALLERY] if asked.gallery or asked.only_gallery else [])]
    with tempfile.TemporaryDirectory() as scratch:
        session = Session(asked.folder or Path(scratch) / "first")
        for number, page in enumerate(chosen):
            text = run_page(page, session, compare=not asked.write, start="" if number else asked.start)
            print(f"{page.relative_to(ROOT)}: {'written' if asked.write else 'as it is printed'}")
            if asked.write:
                for path, name in pictures(text).items():
                    if (session.folder / name).is_file():
                        keep(session.folder / name, DOCS / path)


if __name__ == "__main__":
    main()
