"""How long jobs tell what they have done: a function of (stage, done, total), which the caller brings."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done of it, and its total."""


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
