"""Cards of FITS headers: what one says, ordinary ones by a pattern, all others as cfitsio has it.

Knows 80 bytes at a time; no header and no file.
"""

from __future__ import annotations

import re
from typing import Any

import fitsio

from twinlines.pipeline.lamost.layout import HeaderValue

# A text without quotes in it, a number without an exponent, or a logical; then nothing, or a comment.
_ORDINARY = re.compile(
    rb" *(?:'([ -&(-~]*?) *'|([+-]?(?:\d{1,15}|\d{1,15}\.\d{0,15}))(?=[ /]|$)|([TF])(?=[ /]|$)) *(?:/[ -~]*)?$"
)


def ordinary_value(card: bytes) -> HeaderValue | None:
    """Return the value of a card ``KEYWORD = value / comment`` that looks as most do; None of any other."""
    ordinary = _ORDINARY.match(card, 10)
    if ordinary is None:
        return None
    text, number, logical = ordinary.groups()
    if text is not None:
        return str(text, "ascii")
    if number is not None:
        return float(number) if b"." in number else int(number)
    return bool(logical == b"T")


def value(card: bytes) -> Any:
    """Return the value of a card ``KEYWORD = value / comment``, of any kind.

    Ordinary ones are parsed here: by cfitsio, all of a file's took a quarter of the time that reading it takes.

    Raises
    ------
    OSError
        If cfitsio finds no sense in it.
    """
    ordinary = ordinary_value(card)
    if ordinary is not None:
        return ordinary
    # What is not ASCII is no FITS, and no reason to leave out the file.
    other = fitsio.FITSCard(card.decode("ascii", "replace").replace("\ufffd", "?"))["value"]
    return other.replace("''", "'") if isinstance(other, str) else other
