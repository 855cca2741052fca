"""Spectra of some exposures of a catalog, read from the releases that hold them; keys by which rows are the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.lookup import NOWHERE, places_of
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import integrity
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import KEY_COLUMNS, Release, SurveyError

KEY = np.dtype([("obsid", "<i8"), ("lmjm", "<i4"), ("content_hash", "<u8")])
"""What says which exposure a row is, and whether it is the same as another."""


def keys_of(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.void]:
    """Keys of rows, of :data:`KEY`, by their columns."""
    keys = np.empty(len(columns["obsid"]), KEY)
    for name in KEY_COLUMNS:
        keys[name] = columns[name]
    return keys


def keys_of_rows(rows: xr.Dataset) -> NDArray[np.void]:
    """Keys of rows of a catalog, of exposures or of results, of :data:`KEY`."""
    return keys_of({name: rows[name].values for name in KEY_COLUMNS})


def read_rows(release: Release, rows: NDArray[np.int64]) -> xr.Dataset:
    """Read rows of a release, ascending, once their shards are seen to be as they were.

    Raises
    ------
    SurveyError
        If a shard is damaged or lost.
    """
    for shard in np.unique(rows // EXPOSURES.shard_rows).tolist():
        first = shard * EXPOSURES.shard_rows
        integrity.check_rows(release.store, first, min(first + EXPOSURES.shard_rows, release.rows))
    return _read(release, rows)


def exposures_of(
    survey: str | Path | Survey, rows: xr.Dataset, refused: type[Exception] = SurveyError, *, verify: bool = True
) -> xr.Dataset:
    """Read the spectra of rows of a survey's catalog, in their order.

    Parameters
    ----------
    survey
        The survey, or its folder.
    rows
        Rows of its catalog; some hundreds, as spectra take 100 kB each.
    refused
        What is raised.
    verify
        Compare the checksums of whole shards first; without, those of the chunks are compared that are read.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.schema.EXPOSURES`.

    Raises
    ------
    SurveyError
        Or what ``refused`` is: if a release is not there any more, or has not these rows as they were.
    """
    place = survey if isinstance(survey, Survey) else Survey.at(survey)
    wanted, of_release = keys_of_rows(rows), rows["release"].values.astype(str)
    releases = {release.name: release for release in place.releases}
    parts, order = [], []
    for name in np.unique(of_release).tolist():
        if name not in releases:
            raise refused(
                f"rows of the catalog come from the release {name}, which {place} has no more; restore "
                f"{place.new_release(name).target}"
            )
        release, mine = releases[name], np.flatnonzero(of_release == name)
        found = places_of(wanted[mine], keys_of(release.key_columns()))
        if (found == NOWHERE).any():
            raise refused(f"rows of the catalog are not in its release {name} as they were; restore {release.folder}")
        ascending = np.argsort(found, kind="stable")
        parts.append((read_rows if verify else _read)(release, found[ascending]))
        order.append(mine[ascending])
    joined = xr.concat(parts, "exposure", data_vars="all") if len(parts) > 1 else parts[0]
    return joined.isel(exposure=np.argsort(np.concatenate(order), kind="stable"))


def _read(release: Release, rows: NDArray[np.int64]) -> xr.Dataset:
    with stores.open_store(release.store, EXPOSURES, look=False) as dataset:
        return dataset.isel(exposure=rows).load()
