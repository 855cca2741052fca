"""The one writer of whole files, :mod:`twinlines.models.atomic`, with what the pipeline adds to it: JSON."""

from __future__ import annotations

import json
from pathlib import Path

from twinlines.models.atomic import naming, sync_folder, write_bytes

__all__ = ["naming", "sync_folder", "write_bytes", "write_json"]


def write_json(path: Path, obj: object) -> None:
    """Write ``obj`` as JSON (keys in their order, indented, UTF-8) with :func:`~twinlines.models.atomic.write_bytes`.

    Raises
    ------
    TypeError, ValueError
        If ``obj`` is not JSON (NaN and infinity are not).
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False)
    # A file name that is no UTF-8 reads as lone surrogates, which JSON takes in escaped form.
    write_bytes(path, (text + "\n").encode("utf-8", "backslashreplace"))
