"""Spectra of some exposures of a catalog, read from the releases that hold them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlines.pipeline.binaries.fits.store import KEY_COLUMNS, keys_of
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import integrity
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.validation.observed import ValidationError


def exposures_of(survey: Survey, rows: xr.Dataset) -> xr.Dataset:
    """Read the spectra of rows of a survey's catalog, in their order.

    Parameters
    ----------
    survey
        The survey.
    rows
        Rows of its catalog; some hundreds, as spectra take 100 kB each.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.schema.EXPOSURES`.

    Raises
    ------
    ValidationError
        If a release is not there any more, or has not these rows as they were.
    """
    wanted = keys_of({name: rows[name].values for name in KEY_COLUMNS})
    releases = {release.name: release for release in survey.releases}
    parts, order = [], []
    for name in sorted(set(rows["release"].values.tolist())):
        if name not in releases:
            raise ValidationError(
                f"rows of the catalog come from the release {name}, which {survey} has no more; restore "
                f"{survey.new_release(name).target}"
            )
        release, mine = releases[name], np.flatnonzero(rows["release"].values == name)
        there = keys_of(release.key_columns())
        sorter = np.argsort(there)
        place = np.minimum(np.searchsorted(there, wanted[mine], sorter=sorter), len(there) - 1)
        found = sorter[place]
        if (there[found] != wanted[mine]).any():
            raise ValidationError(
                f"rows of the catalog are not in its release {name} as they were; restore {release.folder}"
            )
        for shard in np.unique(found // EXPOSURES.shard_rows).tolist():
            first = shard * EXPOSURES.shard_rows
            integrity.check_rows(release.store, first, min(first + EXPOSURES.shard_rows, release.rows))
        with stores.open_store(release.store, EXPOSURES, look=False) as dataset:
            parts.append(dataset.isel(exposure=found).load())
        order.append(mine)
    joined = xr.concat(parts, "exposure") if len(parts) > 1 else parts[0]
    return joined.isel(exposure=np.argsort(np.concatenate(order), kind="stable"))
