"""Questions to a survey's stars: a list by evidence or epochs, one star; methods of the accessor ``binaries``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from twinlines.pipeline.binaries.fits.store import FitsError
from twinlines.pipeline.binaries.sources.binary import Binary, open_binary
from twinlines.pipeline.binaries.sources.survey import open_sources as open_sources
from twinlines.pipeline.catalog.catalog import open as open_catalog  # as the front door has it, with this accessor
from twinlines.pipeline.catalog.questions import CatalogError

__all__ = ["Binaries", "Order", "open_catalog", "open_sources", "select", "try_binary"]

Order = Literal["evidence", "double", "epochs", "period", "separation", "mass_ratio", "obsid"]
"""What stars are sorted by."""

_ORDERS: Mapping[str, tuple[tuple[str, ...], int]] = {
    # the columns, and whether the largest comes first (-1); probabilities beyond counting are told apart by their logs
    "evidence": (("sb2_probability", "sb2_log_evidence"), -1),
    "double": (("epochs_double",), -1),
    "epochs": (("epochs",), -1),
    "period": (("period",), 1),
    "separation": (("separation_largest",), -1),
    "mass_ratio": (("wilson_mass_ratio",), 1),
    "obsid": (("obsid",), 1),
}


def select(
    table: xr.Dataset,
    *,
    sort: str = "double",
    least_double: int = 1,
    least_evidence: float = 0.0,
    least_certainty: float = 0.0,
    period: tuple[float | None, float | None] = (None, None),
) -> xr.Dataset:
    """Rows of a table of stars, sorted.

    Parameters
    ----------
    table
        Rows of :data:`twinlines.pipeline.binaries.schema.SOURCES`.
    sort
        What comes first: "evidence" (probability to be a double-lined binary by all exposures, ``sb2_probability``),
        "double" (exposures that show two stars), "epochs", "period" (the shortest), "separation", "mass_ratio" (the
        smallest), "obsid"; of equals what two stars explain better than one. What is not known comes last.
    least_double
        Fewest exposures that show two stars, resolved.
    least_evidence
        Least probability to be a double-lined binary, by all exposures; above 0, those of which it is not known are
        left out.
    least_certainty
        Least probability of the best period; above 0, stars without an orbit are left out.
    period
        Shortest and longest period, days; a star whose period is not known is in no range.

    Raises
    ------
    FitsError
        If there is no such order, or the range of periods is empty.
    """
    if sort not in _ORDERS:
        raise FitsError(f"stars cannot be sorted by {sort!r}; there are {', '.join(_ORDERS)}")
    low, high = period
    if low is not None and high is not None and not low <= high:
        raise FitsError(f"no period lies between {low:g} and {high:g} days; give the shorter one first")
    chosen = table["epochs_double"].values >= least_double
    if least_evidence > 0.0:
        chosen &= table["sb2_probability"].values >= least_evidence
    if least_certainty > 0.0:
        chosen &= table["mode_probability"].values >= least_certainty
    periods = table["period"].values
    if low is not None:
        chosen &= periods >= low
    if high is not None:
        chosen &= periods <= high
    names, sign = _ORDERS[sort]
    keys = [sign * table[name].values.astype(np.float64) for name in names]
    keys += [-table["delta_chi2_sum"].values, table["obsid"].values]
    order = np.lexsort([np.where(np.isnan(key), np.inf, key) for key in reversed(keys)])
    return table.isel(source=order[chosen[order]])


def try_binary(survey: str | Path, obsid: int, *, spectra: bool = True) -> tuple[Binary | None, str]:
    """What :func:`.binary.open_binary` returns, or None and why there is nothing."""
    try:
        return open_binary(survey, obsid, spectra=spectra), ""
    except FitsError as error:
        return None, str(error)


@xr.register_dataset_accessor("binaries")
class Binaries:
    """Questions to the stars of a catalog, ``tw.open_catalog("S").binaries``, or to a table of stars."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def sources(
        self,
        *,
        sort: str = "double",
        least_double: int = 1,
        least_evidence: float = 0.0,
        least_certainty: float = 0.0,
        period: tuple[float | None, float | None] = (None, None),
    ) -> xr.Dataset:
        """Stars that show two sets of lines, as :func:`select` chooses and sorts them.

        Raises
        ------
        FitsError
            If the survey has no stars yet, or there is no such order.
        CatalogError
            If this is neither a table of stars nor a catalog that was opened.
        """
        table = self._dataset if "epochs_double" in self._dataset else open_sources(self._survey())
        return select(
            table.load(),
            sort=sort,
            least_double=least_double,
            least_evidence=least_evidence,
            least_certainty=least_certainty,
            period=period,
        )

    def source(self, obsid: int, *, spectra: bool = True) -> Binary:
        """All that is known of the star that was observed as ``obsid``: see :func:`.binary.open_binary`.

        Raises
        ------
        FitsError, CatalogError
            As there; also if this is not a catalog that was opened.
        """
        return open_binary(self._survey(), obsid, spectra=spectra)

    def _survey(self) -> Path:
        """Folder of the survey whose catalog this is, or a part of it."""
        place = self._dataset.encoding.get("source")
        if not place:
            raise CatalogError(
                "this Dataset does not know its survey; ask what open_catalog returned, or give the survey's folder to "
                "open_sources or open_binary"
            )
        return Path(place).parent.parent
