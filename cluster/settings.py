"""What people write in a settings file, or type, becomes the values of a frozen dataclass's fields.

A key that does not exist is an error with the nearest that does: a misspelt limit must not pass for a default. A value
that is not of its field's kind is an error that shows it and says what to give instead. Knows what tables and readers
are, and nothing of what they set; it stands here because the pipeline imports this house, and never this house the
pipeline.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

Reader = Callable[[Any, str], Any]
"""Makes a field's value from what is written and from where it stands, ``site.yaml: memory``, for errors of its own."""


class Unfit(ValueError):  # noqa: N818 (no error of the program: read_table makes the caller's of it)
    """What is written is not of its field's kind; the message says what to give: "give a whole number"."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A question in brackets with the known word that is nearest, or nothing where none is near.

    >>> did_you_mean("memroy", ["cores", "memory"])
    " (did you mean 'memory'?)"
    """
    near = get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def read_toml(path: Path, error: type[ValueError]) -> dict[str, Any]:
    """The content of a TOML file; ``error`` where there is no such file, or it is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as reason:
        raise error(f"{path} cannot be read as TOML: {reason}") from reason


def readers_of(kind: type, by_annotation: Mapping[str, Reader]) -> dict[str, Reader]:
    """The reader of each field of a dataclass, by its annotation as it is spelt, a final ``| None`` left out.

    A field whose annotation has no reader is not for users to set, and is left out.
    """
    annotations = {item.name: str(item.type).removesuffix(" | None") for item in fields(kind)}
    return {name: by_annotation[spelt] for name, spelt in annotations.items() if spelt in by_annotation}


def read_table(written: object, readers: Mapping[str, Reader], where: str, error: type[ValueError]) -> dict[str, Any]:
    """Values of the fields that a table sets.

    Parameters
    ----------
    written
        The table; anything else is an error. A key without a value, as YAML has them, sets nothing.
    readers
        By field, what makes its value. It raises :class:`Unfit` where that cannot be.
    where
        The table's place, for messages: ``set.toml: extras``, or, of a whole file, ``set.toml:``.
    error
        What to raise.
    """
    table = where.removesuffix(":")
    if not isinstance(written, Mapping):
        raise error(f"{table} is {written!r}; give a table")
    values = {}
    for key, value in written.items():
        if key not in readers:
            raise error(f"{table}: there is no {key!r}{did_you_mean(key, readers)}; there are {', '.join(readers)}")
        if value is None:
            continue
        place = f"{where} {key}" if where.endswith(":") else f"{where}.{key}"
        try:
            values[key] = readers[key](value, place)
        except Unfit as cure:
            raise error(f"{place} is {value!r}; {cure}") from None
    return values


def switch(written: Any, _: str) -> bool:
    """A truth value, as TOML has it."""
    if not isinstance(written, bool):
        raise Unfit("give true or false")
    return written


def number(written: Any, _: str) -> float:
    """A number, whole or not."""
    if isinstance(written, bool) or not isinstance(written, int | float):
        raise Unfit("give a number")
    return float(written)


def whole_number(written: Any, _: str) -> int:
    """A whole number."""
    if isinstance(written, bool) or not isinstance(written, int):
        raise Unfit("give a whole number")
    return written


def text(written: Any, _: str) -> str:
    """Text; a number is none, since YAML and TOML take what lacks quotes for one."""
    if not isinstance(written, str):
        raise Unfit("give text; put it in quotes")
    return written


def one_of(words: Iterable[str]) -> Reader:
    """A reader of one of the words."""
    known = list(words)

    def word(written: Any, _: str) -> str:
        if written not in known:
            raise Unfit(f"give one of {', '.join(known)}{did_you_mean(written, known)}")
        return str(written)

    return word
