"""Stores that appear whole, each under a number of its own: what a reader has opened stays as it was.

The newest one counts. Its predecessor stays beside it, for whoever still reads it; those before go. Knows no star.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.datasets import Schema, SchemaError
from twinlines.pipeline.storage import atomic, stores
from twinlines.pipeline.storage.columns import open_columns
from twinlines.pipeline.storage.stores import StoreError


def newest(folder: Path, stem: str) -> Path | None:
    """The store of the highest number in a folder; None if there is none."""
    every = _numbered(folder, stem)
    return every[-1] if every else None


def put(
    folder: Path,
    stem: str,
    schema: Schema,
    rows: int,
    column: Callable[[str], NDArray[Any]],
    about: Mapping[str, object],
) -> Path:
    """Write a store, one column in memory at a time, under the next number, and return its path.

    Parameters
    ----------
    folder
        Where; it exists.
    stem
        Name of its kind.
    schema
        What it holds.
    rows
        Its rows.
    column
        Gives each of the schema's variables, rows in their order.
    about
        Its attributes.

    Raises
    ------
    OSError
        If the disk is full; what was there before stays, and nothing else.
    """
    sweep(folder, stem)
    before = _numbered(folder, stem)
    number = _number(before[-1]) + 1 if before else 1
    aside = folder / f".{stem}.{os.getpid()}-{uuid4().hex[:8]}"
    target = folder / f"{stem}-{number:06d}.zarr"
    try:
        stores.create(aside, schema, rows, about)
        for name in schema.variables:
            stores.write_column(aside, schema, name, column(name))
        stores.seal(aside, schema)
        aside.rename(target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    atomic.sync_folder(folder)
    for old in before[:-1]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def sweep(folder: Path, stem: str) -> None:
    """Remove what a crash left half written."""
    for stale in folder.glob(f".{stem}.*"):
        shutil.rmtree(stale, ignore_errors=True)


def read(path: Path, schema: Schema) -> xr.Dataset:
    """Open a store lazily: what is read after the store has gone is an error, and never taken for missing values.

    Raises
    ------
    StoreError
        If files of it are gone, or it is of another version.
    """
    try:
        return open_columns(path, schema).dataset
    except SchemaError as error:
        raise StoreError(f"{path} is of another version of Twinlines ({error})") from error


def open_newest(
    folder: Path,
    stem: str,
    schema: Schema,
    *,
    none: str | Callable[[], str],
    again: str,
    refused: type[Exception],
    how: Callable[[Path, Schema], xr.Dataset] | None = None,
) -> tuple[Path, xr.Dataset]:
    """Open the newest store of a kind, and say what to do where that cannot be.

    Parameters
    ----------
    folder, stem, schema
        Where it is, the name of its kind, and what it holds.
    none
        What is said where there is no store, and what to do; a function where that takes looking around.
    again
        What to do where the store is damaged.
    refused
        What is raised.
    how
        :func:`read`, or :func:`load`; the former by default.

    Returns
    -------
    path, dataset

    Raises
    ------
    Exception
        ``refused``: if there is no store, or files of it are gone, or it is of another version.
    """
    path = newest(folder, stem)
    if path is None:
        raise refused(none if isinstance(none, str) else none())
    try:
        return path, (how or read)(path, schema)
    except StoreError as error:
        raise refused(f"{error}; {again}") from error


def load(path: Path, schema: Schema) -> xr.Dataset:
    """Read all of a store.

    Raises
    ------
    StoreError
        As :func:`read`; or if a value cannot be read.
    """
    with read(path, schema) as lazy:
        return schema.dataset(stores.read_columns(path, schema.variables), lazy.sizes[schema.row], **lazy.attrs)


def _numbered(folder: Path, stem: str) -> list[Path]:
    name = re.compile(rf"{re.escape(stem)}-\d{{6}}\.zarr")
    return sorted(path for path in folder.glob(f"{stem}-*.zarr") if name.fullmatch(path.name))


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
