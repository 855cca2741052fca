"""The front door: cheap, complete, and kind to whoever mistypes."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version
from types import ModuleType

import pytest

import twinlines as tw
from tests.places import ROOT

STUB = ROOT / "front" / "__init__.pyi"


def test_importing_it_imports_nothing_that_is_slow() -> None:
    code = (
        "import sys, twinlines as tw; dir(tw)\n"
        "slow = {'numpy', 'torch', 'xarray', 'dask', 'astropy', 'matplotlib', 'importlib.metadata'} & {*sys.modules}\n"
        "sys.exit(', '.join(sorted(slow)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_it_lists_its_names_and_no_others() -> None:
    tree = ast.parse(STUB.read_text())
    (listed,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert dir(tw) == sorted(listed) == sorted(tw.__all__)
    assert tw.__version__ == version("twinlines")


@pytest.mark.parametrize("name", [name for name in tw.__all__ if name != "__version__"])
def test_every_name_is_there_and_shows_a_line_of_use(name: str) -> None:
    thing = getattr(tw, name)
    if isinstance(thing, ModuleType):
        assert all(f"tw.{name}.{inner}(" in getattr(thing, inner).__doc__ for inner in thing.__all__)
    else:
        assert f">>> import twinlines as tw\n    >>> {''}" in thing.__doc__
        assert f"tw.{name}(" in thing.__doc__.partition("Examples")[2]


@pytest.mark.parametrize(("typo", "near"), [("jugde", "judge"), ("open_catalogue", "open_catalog"), ("plots", "plot")])
def test_a_typo_is_told_what_is_near(typo: str, near: str) -> None:
    with pytest.raises(
        AttributeError, match=rf"module 'twinlines' has no attribute '{typo}'; did you mean .*\b{near}\b"
    ):
        getattr(tw, typo)
    assert not hasattr(tw, "__wrapped__")


def test_what_is_loaded_says_what_it_holds() -> None:
    library, tracks, ensemble = (
        repr(load()).splitlines() for load in (tw.load_library, tw.load_tracks, tw.load_ensemble)
    )
    assert [len(lines) for lines in (library, tracks, ensemble)] == [2, 2, 2]
    assert (
        library[0]
        == "<Library: 2184 nodes, Teff 3500 to 10000 K, logg 0 to 5, [Fe/H] -2 to 0.5, [alpha/Fe] -0.5 to 0.7"
    )
    assert "2040 tracks, 0.1 to 2.2 Msun, EEP 202 to 605" in tracks[0]
    assert "2 members, each for both arms (B, R, J), penalties 8, 16, 32" in ensemble[0]
    assert all("digest" in lines[1] for lines in (library, tracks, ensemble))
