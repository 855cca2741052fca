"""The exposures that a FITS file says it has, by its headers alone: a second reader, with no code of the first one.

An audit asks it what a file holds, so that what the first one overlooks is not overlooked twice. It unpacks what it
must, skips all pixels, and judges nothing.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ARMS = {"B": 1, "R": 2}
"""Bits of the arms."""

_BLOCK, _CARD = 2880, 80
_MOST_BLOCKS = 1000  # of one header
_LAYERS = 3  # of compression within each other
_MAGIC = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_EXPOSURE = re.compile(r"([BR])-(\d{8})")
_VALUE = re.compile(r"\s*(?:'((?:[^']|'')*)'|([^/]*))")
_DAMAGE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Claims:
    """What a file says that it has."""

    obsid: int
    """Observation identifier; -1 if it says none."""
    arms: dict[int, int]
    """For each local modified Julian minute, the bits of the arms of which there is an extension."""
    whole: bool
    """Whether its headers could be read to the end."""


def claims(path: Path) -> Claims:
    """Read the headers of a file.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    obsid = -1
    arms: dict[int, int] = {}
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        try:
            for header in _headers(_unpacked(file, stack)):
                if obsid < 0:
                    obsid = _whole_number(header.get("OBSID", ""))
                match = _EXPOSURE.fullmatch(header.get("EXTNAME", "").strip().upper())
                if match:
                    minute = int(match[2])
                    arms[minute] = arms.get(minute, 0) | ARMS[match[1]]
        except _DAMAGE:
            return Claims(obsid, arms, whole=False)
    return Claims(obsid, arms, whole=True)


def _unpacked(file: IO[bytes], stack: ExitStack) -> IO[bytes]:
    for _ in range(_LAYERS):
        start = file.read(6)
        file.seek(0)
        opener: Any = next((opener for magic, opener in _MAGIC.items() if start.startswith(magic)), None)
        if opener is None:
            break
        file = stack.enter_context(opener(file))
    return file


def _headers(file: IO[bytes]) -> Iterator[dict[str, str]]:
    """Keywords of one header after the other; data are skipped."""
    place = 0
    while True:
        file.seek(place)
        header: dict[str, str] = {}
        for number in range(_MOST_BLOCKS):
            block = file.read(_BLOCK)
            if not block and not number:
                return
            if len(block) < _BLOCK or (not number and not place and not block.startswith(b"SIMPLE  =")):
                raise EOFError
            place += _BLOCK
            if not number and place > _BLOCK and not block.startswith(b"XTENSION"):
                return  # what follows the last extension is none
            if _parse(block, header):
                break
        else:
            raise EOFError
        yield header
        place += -(-_data_bytes(header) // _BLOCK) * _BLOCK


def _parse(block: bytes, header: dict[str, str]) -> bool:
    """Add the keywords of a block; returns whether the header ends in it."""
    for start in range(0, _BLOCK, _CARD):
        card = block[start : start + _CARD].decode("ascii", "replace")
        key = card[:8].strip().upper()
        if key == "END":
            return True
        if card[8:10] == "= " and (match := _VALUE.match(card[10:])):
            header[key] = match[1] if match[1] is not None else (match[2] or "").strip()
    return False


def _data_bytes(header: dict[str, str]) -> int:
    axes = int(header.get("NAXIS", "0"))
    if not axes:
        return 0
    size = 1
    for axis in range(1, axes + 1):
        size *= int(header[f"NAXIS{axis}"])
    groups, heap = int(header.get("GCOUNT", "1")), int(header.get("PCOUNT", "0"))
    return abs(int(header["BITPIX"])) // 8 * groups * (heap + size)


def _whole_number(text: str) -> int:
    try:
        number = float(text.strip().upper().replace("D", "E"))
    except ValueError:
        return -1
    return int(text) if text.strip().isdigit() else int(number) if number == int(number) and number >= 0 else -1
