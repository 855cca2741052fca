"""What is built and installed: an sdist, the wheel built from it, and Twinlines in an environment of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"front": "twinlines", **{folder: f"twinlines/{folder}" for folder in ("pipeline", "models", "cluster")}}
STRAY = (
    "pipeline/notes.txt",
    "pipeline/storage/drafts/draft.py",
    "models/data/more.safetensors",
    "front/__pycache__/a.py",
)
"""What may lie about in a checkout, and belongs to no package."""
BUILT = "docs/api/"
"""What ``make docs`` writes among the sources."""

# Through code, library, tracks and weights.
JUDGE = """
import json
import tempfile

import twinlines as tw
from twinlines.cluster.inventory import versions

folder = tempfile.mkdtemp(dir=".")
tw.mock_release(folder, stars=1, seed=1)
verdict = tw.judge(tw.read_lamost(folder, skip_bad=True))
answer = {
    "file": tw.__file__,
    "code": versions()["twinlines' code"],
    "library": tw.load_library().digest,
    "probabilities": verdict.pb_pct_B_16.sel(percentile=50).dropna("exposure").values.tolist(),
}
print(json.dumps(answer))
"""


def _files(folder: Path) -> set[str]:
    """All files below a folder, but for what Python and editors leave there."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if not any(part.startswith((".", "__pycache__")) for part in path.parts)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that is built from it; the checkout stays as it is."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for folder in (*FOLDERS, "tests", "docs", "benchmarks"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.*"), ROOT / "Makefile", ROOT / "LICENSE"]:
        if path.is_file() and not path.name.startswith("."):
            shutil.copyfile(path, copy / path.name)
    for stray in STRAY:
        (copy / stray).parent.mkdir(exist_ok=True)
        (copy / stray).write_text("1\n")
    # setuptools' own hooks, which every front end calls; no network.
    _run(
        sys.executable,
        "-W",
        "error",
        "-c",
        f"from setuptools import build_meta as b; b.build_sdist({str(out)!r})",
        cwd=copy,
    )
    (sdist,) = out.iterdir()
    _run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation"),
        *("--wheel-dir", str(out), str(sdist)),
        cwd=out,
    )
    return out


def _run(*command: str, cwd: Path) -> str:
    """Run a command that must succeed; what it prints."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_packages_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {f"{package}/{name}" for folder, package in FOLDERS.items() for name in _files(ROOT / folder)}
    assert held == expected
    assert {"twinlines/py.typed", "twinlines/pipeline/storage/atomic.py", "twinlines/pipeline/data/library.npz"} <= held


def test_the_sdist_holds_what_building_and_testing_take(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    expected = {
        f"{folder}/{name}" for folder in (*FOLDERS, "tests", "docs", "benchmarks") for name in _files(ROOT / folder)
    }
    expected = {name for name in expected if not name.startswith(BUILT)}
    assert expected <= held
    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "setup.py"} <= held
    assert not {name for name in held if "__pycache__" in name or name in STRAY or name.startswith(BUILT)}


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which only the wheel is installed; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=folder)
    (wheel,) = built.glob("*.whl")
    python = str(folder / "bin" / "python")
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(wheel), cwd=folder)
    packages = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    # Folders in such a file come last, and files like it in them have no effect: an editable install there has none.
    shared = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (Path(packages) / "dependencies.pth").write_text("".join(f"{path}\n" for path in shared))
    return folder


def test_an_installed_wheel_judges_as_the_checkout_does(environment: Path, tmp_path: Path) -> None:
    assert _run(str(environment / "bin" / "twinlines"), "--version", cwd=tmp_path).startswith("twinlines 0.")
    installed, here = (
        json.loads(_run(str(python), "-c", JUDGE, cwd=tmp_path))
        for python in (environment / "bin" / "python", sys.executable)
    )
    assert Path(installed.pop("file")).is_relative_to(environment)
    assert not Path(here.pop("file")).is_relative_to(environment)
    # Among it the digest of the code: workers that have the wheel may work for a client in a checkout.
    assert installed == here
    assert installed["probabilities"]
    assert all(0.0 <= probability <= 1.0 for probability in installed["probabilities"])
