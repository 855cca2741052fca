"""The report's page of trust: what validations of a survey have found, or how they are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One validation in words and a table."""

    title: str
    """What was validated."""
    words: str
    """What came of it."""
    names: tuple[str, ...] = ()
    """Headings of the table."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Its rows."""


def trust(survey: Path) -> tuple[Part, ...]:
    """What is known of how far a survey's catalog can be trusted."""
    return ()
