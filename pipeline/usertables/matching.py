"""Which of some stars others are: the nearest within a radius, or that of the same obsid; why none is.

For each of one's own it says which of the others it is, so that a table's stars are found in a catalog, and a catalog's
in a table, by the same rule: the radius is included, and of equally near ones the first counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.lookup import NOWHERE, places_of
from twinlines.pipeline.sky import nearest

Array = NDArray[np.float64]
By = Literal["position", "obsid"]
"""How stars are matched."""


_ANYWHERE = 180.0 * 3600.0  # arcsec


class Stars(NamedTuple):
    """Stars, or exposures of some, that are to be matched; what they are not matched by may be missing."""

    ra: Array | None = None
    """(star,) right ascension (J2000), deg; NaN where unknown."""
    dec: Array | None = None
    """(star,) declination, deg."""
    obsid: NDArray[np.int64] | None = None
    """(star,) LAMOST's identifiers; negative where unknown."""

    def usual(self, by: By | None) -> By:
        """How they are matched, if nothing else is asked for: by position, if there are any."""
        return by or ("position" if self.ra is not None else "obsid")


@dataclass(frozen=True)
class Matched:
    """Which of the others each star is."""

    index: NDArray[np.int64]
    """(star,) its place among the others; :data:`twinlines.pipeline.lookup.NOWHERE` without one."""
    distance: Array
    """(star,) distance, arcsec; NaN by obsid, and without one."""

    @property
    def there(self) -> NDArray[np.bool_]:
        """(star,) whether it is among the others."""
        return np.asarray(self.index != NOWHERE, np.bool_)


def match(mine: Stars, others: Stars, radius: float, by: By) -> Matched:
    """Find stars among others.

    Parameters
    ----------
    mine, others
        The stars.
    radius
        Largest distance, arcsec; by obsid it does not count.
    by
        How.
    """
    if by == "position":
        assert mine.ra is not None
        assert mine.dec is not None
        assert others.ra is not None
        assert others.dec is not None
        return Matched(*nearest(mine.ra, mine.dec, others.ra, others.dec, radius))
    assert mine.obsid is not None
    assert others.obsid is not None
    index = np.where(mine.obsid >= 0, places_of(mine.obsid, others.obsid), NOWHERE)
    return Matched(index, np.full(len(index), np.nan))


def why_none(
    table: Stars,
    columns: Mapping[str, str],
    others: Stars,
    radius: float,
    by: By,
    of: str = "an exposure of the catalog",
) -> str:
    """What to say of a table of which no star is among others: where both are, and what would match.

    Parameters
    ----------
    table
        Its stars.
    columns
        Names of the columns that they are from.
    others
        The others.
    radius, by
        How they were matched.
    of
        One of the others, in words.
    """
    if by == "obsid":
        assert table.obsid is not None
        assert others.obsid is not None
        return (
            f"none of its {len(table.obsid)} obsids ({_range(table.obsid)}) is that of {of} "
            f"({_range(others.obsid)}); give a table of the same stars, or one with positions"
        )
    assert table.ra is not None
    assert table.dec is not None
    assert others.ra is not None
    assert others.dec is not None
    ways = {
        f"{columns['ra']!r} and {columns['dec']!r} are swapped": (table.dec, table.ra),
        f"{columns['ra']!r} is in hours": (15.0 * table.ra, table.dec),
        "both are in radians": (np.degrees(table.ra), np.degrees(table.dec)),
    }
    hint = ""
    for what, (ra, dec) in ways.items():
        index, _ = nearest(ra, dec, others.ra, others.dec, radius)
        if (index != NOWHERE).any():
            hint = f"; {int((index != NOWHERE).sum())} would if {what}"
            break
    _, away = nearest(table.ra, table.dec, others.ra, others.dec, _ANYWHERE)
    if np.isfinite(away).any():
        row = int(np.nanargmin(away))
        hint = f"; the nearest is row {row}, {away[row] / 3600.0:.4f} degrees away{hint}"
    return (
        f"none of its {len(table.ra)} rows lies within {radius:g} arcsec of {of}{hint}. Its {columns['ra']!r} runs "
        f"from {_range(table.ra)}, {columns['dec']!r} from {_range(table.dec)} deg, the others from "
        f"{_range(others.ra)} and from {_range(others.dec)}; give a table of the same stars, name other columns, or "
        "give columns their units"
    )


def _range(values: NDArray[Any]) -> str:
    whole = values.dtype.kind in "iu"
    known = values[values >= 0] if whole else values[np.isfinite(values)]
    style = "d" if whole else ".4f"
    return f"{known.min():{style}} to {known.max():{style}}" if len(known) else "nowhere"
