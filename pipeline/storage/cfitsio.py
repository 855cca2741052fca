"""Names under which cfitsio opens what is meant, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def name_of(path: Path) -> Iterator[str]:
    """While the context lasts, a name by which cfitsio reads the file ``path``, whatever that is called.

    cfitsio takes brackets and parentheses in a name for its own syntax, and fitsio before it ``~`` and ``$``: it gets
    the name of an open descriptor, which has none of them.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """
    with path.open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"
