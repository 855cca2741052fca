"""Lazy packages: what a package offers stands in the stub beside its ``__init__.py``, and is imported when it is used.

Type checkers read the same stub, so that there is one list for both. The package ``lazy_loader`` does much the same; it
cannot import under another name or by an absolute one, and leaves whoever mistypes a name alone with the mistake.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path


def attach(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make a package's ``__getattr__`` and ``__dir__``.

    Parameters
    ----------
    package
        Its ``__name__``.
    file
        Its ``__file__``; beside it stands ``__init__.pyi``, of lines ``from MODULE import NAME as NAME``, all absolute.
        A name imported from the package itself is a module in it.

    Returns
    -------
    tuple
        The two functions, to be assigned to those names. ``__all__`` is an attribute like others.

    Examples
    --------
    >>> __getattr__, __dir__ = lazy.attach(__name__, __file__)  # doctest: +SKIP
    """
    stub = Path(file).with_suffix(".pyi")

    @cache
    def places() -> dict[str, tuple[str, str]]:
        return _places(stub)

    def get(name: str) -> object:
        if name == "__all__":
            return sorted(places())
        if name not in places():
            raise AttributeError(_no_attribute(package, name, places()))
        module, attribute = places()[name]
        if module == package:
            return import_module(f"{package}.{attribute}")
        value = getattr(import_module(module), attribute)
        setattr(sys.modules[package], name, value)  # the next time it is found without this function
        return value

    return get, lambda: sorted(places())


def _places(stub: Path) -> dict[str, tuple[str, str]]:
    """Module and name there of each name that a stub offers."""
    import ast

    places: dict[str, tuple[str, str]] = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            places |= {alias.asname: (node.module, alias.name) for alias in node.names if alias.asname is not None}
    return places


def _no_attribute(package: str, name: str, places: dict[str, tuple[str, str]]) -> str:
    message = f"module {package!r} has no attribute {name!r}"
    if name.startswith("__"):  # Python itself asks for these
        return message
    import difflib

    near = difflib.get_close_matches(name, places, n=3, cutoff=0.5)
    return f"{message}; {'did you mean ' + ' or '.join(near) + '?' if near else 'it has ' + ', '.join(sorted(places))}"
