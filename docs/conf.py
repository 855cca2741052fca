"""How the reference is built (``make docs``): pages as they stand in the repository, entries from docstrings.

The repository's root is the folder of sources, so that links between pages are right both here and where the repository
is read.
"""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy.typing
from sphinx.application import Sphinx

_Scalar = TypeVar("_Scalar")


class NDArray(Generic[_Scalar]):
    """What signatures say, ``NDArray[float32]``; numpy's own turns into a type of three brackets."""

    __module__ = "numpy.typing"


class ArrayLike:
    """What signatures say instead of all that can become an array."""

    __module__ = "numpy.typing"


# Before any module of Twinlines is imported.
numpy.typing.NDArray = NDArray  # type: ignore[misc]
numpy.typing.ArrayLike = ArrayLike  # type: ignore[misc]

project = "Twinlines"
author = "The Twinlines developers"
copyright = author  # noqa: A001  Sphinx' name
version = release = installed_version("twinlines")

root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/**.md",
    "docs/api/**.rst",
    "models/weights/README.md",
    "pipeline/data/README.md",
]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
templates_path = [str(Path(__file__).parent / "_templates")]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
# Types of parameters are prose ("(spectrum, pixel) float32"): no word of it is a link.
napoleon_use_param = False
napoleon_use_rtype = False
myst_heading_anchors = 3
# What a docstring refers to by its role must be there; types are in many packages, whose references are not at hand.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("py:obj", "typing.*"), ("py:func", r"json\..*")]

html_theme = "alabaster"
html_title = f"Twinlines {release}"
html_static_path = [str(Path(__file__).parent / "_static")]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "description": "Double-lined binaries in survey spectra",
    "page_width": "1240px",
    "sidebar_width": "240px",
    "body_max_width": "none",
    "fixed_sidebar": True,
    "font_size": "15px",
    "code_font_size": "0.8em",
    "font_family": "system-ui, sans-serif",
    "head_font_family": "system-ui, sans-serif",
}


def _whole_text(_app: Sphinx, what: str, _name: str, _value: object, _options: Any, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before a colon in a field's docstring for the field's type."""
    if what in {"attribute", "data", "property"}:
        lines.insert(0, "\\ ")  # nothing, in reStructuredText


def _readable(
    _app: Sphinx, _what: str, _name: str, _value: object, _options: Any, arguments: str | None, result: str | None
) -> tuple[str, str | None] | None:
    """Name functions that are defaults, and leave out what is no expression: Sphinx shows such signatures raw."""
    if arguments is None:
        return None
    arguments = re.sub(r"<function (\w+)[^<>]*>", r"\1", arguments)
    return re.sub(r"<[^<>]*>", "...", arguments), result


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _readable)
    app.connect("autodoc-process-docstring", _whole_text, priority=100)
