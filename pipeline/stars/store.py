"""Tracks on disk: one zipped Zarr store with its provenance and a content hash.

This module knows the stored form and no interpolation; :meth:`twinlines.pipeline.stars.tracks.Tracks.load` is how
tracks are opened for use.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.schema import TRACKS
from twinlines.pipeline.storage import atomic, hashed_npz, stores
from twinlines.pipeline.storage.stores import StoreError

_NUMBERS = tuple(name for name, variable in TRACKS.variables.items() if variable.dtype != "str")


@dataclass(frozen=True)
class Stored:
    """What a store of tracks holds."""

    columns: Mapping[str, NDArray[Any]]
    """The variables of :data:`twinlines.pipeline.schema.TRACKS` by name."""
    eep: NDArray[np.float64]
    """EEPs, (eep,)."""
    attrs: Mapping[str, Any]
    """Notes of its writer: origin, parameters."""
    digest: str
    """Content hash of the numbers, not of the names of files: 32 hexadecimal digits of BLAKE2b."""


def write(
    path: str | Path, columns: Mapping[str, NDArray[Any]], eep: NDArray[np.float64], attrs: Mapping[str, object]
) -> str:
    """Write a store and return its digest.

    Parameters
    ----------
    path
        File to write, by custom ``*.zarr.zip``; one that exists is replaced.
    columns
        Variables of :data:`twinlines.pipeline.schema.TRACKS` by name, tracks sorted by ([Fe/H], [alpha/Fe], mass).
        ``n_eeps`` is filled in; others that are not given are missing values.
    eep
        EEPs, ascending, (eep,).
    attrs
        Notes, JSON-serialisable.

    Raises
    ------
    twinlines.pipeline.datasets.SchemaError
        If a column is unknown or has another shape.
    OSError
        If the folder is missing or the disk is full; then ``path`` is as it was.
    """
    schema = TRACKS.labelled("eep", eep.tolist())
    n_eeps = np.isfinite(columns["log_age"]).sum(axis=1)
    dataset = schema.dataset({**columns, "n_eeps": n_eeps}, len(n_eeps))
    digest = _digest({name: dataset[name].values for name in _NUMBERS}, eep)
    atomic.write_bytes(Path(path), stores.pack(schema, dataset.assign_attrs(attrs, digest=digest)))
    return digest


def read(path: str | Path) -> Stored:
    """Read a store, a ``.zarr.zip`` file or a folder, and check its content hash.

    Raises
    ------
    StoreError
        If the store is missing or damaged.
    twinlines.pipeline.datasets.SchemaError
        If it is a store of another kind.
    """
    try:
        dataset = stores.open_store(path, TRACKS)
        columns = {name: np.asarray(dataset[name].values) for name in TRACKS.variables}
        eep = np.asarray(dataset["eep"].values, dtype=np.float64)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:  # RuntimeError: blosc's
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} is damaged ({error}); make or copy it again") from error
    attrs = {name: value for name, value in dataset.attrs.items() if name not in ("schema", "schema_version")}
    digest, stated = _digest({name: columns[name] for name in _NUMBERS}, eep), attrs.pop("digest", None)
    if digest != stated:
        raise StoreError(
            f"{path} is damaged: its content hashes to {digest}, its attributes say {stated}; make or copy it again"
        )
    return Stored(columns, eep, attrs, digest)


def _digest(numbers: Mapping[str, NDArray[Any]], eep: NDArray[np.float64]) -> str:
    return hashed_npz.content_digest({**numbers, "eep": eep})
