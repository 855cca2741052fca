"""A table of known ephemerides, as of Kepler's eclipsing binaries: read, checked, matched with a survey's stars.

A period, and where it is known the time of an eclipse, are taken as priors of an orbit. What cannot be right is refused
with its row; which column was taken for what is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from twinlines.pipeline.binaries.fits.store import FitsError
from twinlines.pipeline.binaries.grouping import RADIUS, has_position
from twinlines.pipeline.binaries.orbits.prior import Ephemeris
from twinlines.pipeline.catalog.ephemerides import (
    ECLIPSE_ERROR_NAMES,
    ECLIPSE_NAMES,
    OFFSET,
    PERIOD_ERROR_NAMES,
    PERIOD_NAMES,
    julian_dates,
)
from twinlines.pipeline.catalog.usertable import POSITION_NAMES, UserTable, read_table

Array = NDArray[np.float64]
MatchedBy = Literal["position", "obsid"]
"""How stars of the table and of the survey are matched."""

USUAL: Mapping[str, tuple[str, ...]] = {
    **POSITION_NAMES,
    "period": PERIOD_NAMES,
    "period_error": PERIOD_ERROR_NAMES,
    "eclipse": ECLIPSE_NAMES,
    "eclipse_error": ECLIPSE_ERROR_NAMES,
}
"""Usual names of columns, whatever their case, the likeliest first."""

_OPTIONAL = ("period_error", "eclipse", "eclipse_error")
_LEAST_PART = 1e-6  # of the period: its error where none is told, or one of zero
_ECLIPSE_ERROR = 0.01  # of the period: that of an eclipse whose error is not told
_LEAST_ECLIPSE_ERROR = 1e-3  # days; eclipses are timed by a clock of their own


class EphemerisError(FitsError):
    """A table of ephemerides cannot be used."""


@dataclass(frozen=True)
class Ephemerides:
    """Ephemerides of stars; arrays of shape (row,), those of the table that have a period."""

    path: Path
    """File they come from."""
    columns: Mapping[str, str]
    """Name of the column that was taken for what."""
    notes: tuple[str, ...]
    """What a user should know of how the table was read."""
    rows: int
    """Rows of the table, those without a period included."""
    row: NDArray[np.int64]
    """Each one's row in the table, from 0."""
    period: Array
    """Days."""
    period_error: Array
    """Its standard deviation, days."""
    eclipse: Array
    """Middle of an eclipse, BJD; NaN where unknown."""
    eclipse_error: Array
    """Its standard deviation, days."""
    ra: Array | None
    """Right ascension (J2000), deg; None: stars are matched by obsid."""
    dec: Array | None
    """Declination, deg."""
    obsid: NDArray[np.int64] | None
    """LAMOST's observation identifier; None: stars are matched by position."""

    @property
    def by(self) -> MatchedBy:
        """How its stars are matched."""
        return "obsid" if self.ra is None else "position"

    def ephemeris(self, place: int) -> Ephemeris:
        """What one of them says: the prior of an orbit; it does not tell which star is behind."""
        eclipse = float(self.eclipse[place])
        return Ephemeris(
            float(self.period[place]),
            float(self.period_error[place]),
            eclipse if np.isfinite(eclipse) else None,
            float(self.eclipse_error[place]),
        )

    def match(
        self,
        ra: Array,
        dec: Array,
        obsids: Mapping[int, int],
        radius: float = RADIUS,
    ) -> dict[int, Ephemeris]:
        """Ephemerides by the number of the star that each is of.

        Parameters
        ----------
        ra, dec
            Positions of the stars (J2000), deg; (star,).
        obsids
            Star of each obsid.
        radius
            Largest distance, arcsec.

        Raises
        ------
        EphemerisError
            If no star has one, or one has two.
        """
        if self.obsid is not None:
            pairs = [(obsids[number], place) for place, number in enumerate(self.obsid.tolist()) if number in obsids]
            if not pairs:
                raise EphemerisError(
                    f"{self.path}: none of its {len(self.obsid)} obsids ({self.obsid.min()} to {self.obsid.max()}) is "
                    f"of the survey's {len(ra)} stars; give a table of the same stars, or one with positions"
                )
        else:
            pairs = self._near(ra, dec, radius)
        matched: dict[int, int] = {}
        for star, place in pairs:
            if star in matched:
                raise EphemerisError(
                    f"{self.path}: rows {self.row[matched[star]]} and {self.row[place]} (periods "
                    f"{self.period[matched[star]]:g} and {self.period[place]:g} d) are both of the star at ra "
                    f"{ra[star]:.5f}, dec {dec[star]:.5f}; keep one row of each star"
                )
            matched[star] = place
        return {star: self.ephemeris(place) for star, place in matched.items()}

    def _near(self, ra: Array, dec: Array, radius: float) -> list[tuple[int, int]]:
        assert self.ra is not None
        assert self.dec is not None
        if not len(ra):
            return []
        table, stars = SkyCoord(self.ra, self.dec, unit="deg"), SkyCoord(ra, dec, unit="deg")
        nearest, distance, _ = table.match_to_catalog_sky(stars)
        near = np.flatnonzero(distance.to_value(u.arcsec) <= radius)
        if not len(near):
            least = int(np.argmin(distance))
            raise EphemerisError(
                f"{self.path}: none of its {len(self.ra)} stars lies within {radius:g} arcsec of one of the survey's "
                f"{len(ra)}; the nearest is that of row {self.row[least]}, "
                f"{distance[least].to_string(u.deg, decimal=True, precision=4)} degrees away. Give a table of the same "
                "stars, or name other columns"
            )
        return [(int(nearest[place]), int(place)) for place in near]

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object: where they come from, and how they were read."""
        return {
            "file": self.path.name,
            "columns": dict(self.columns),
            "by": self.by,
            "rows": self.rows,
            "ephemerides": len(self.period),
            "notes": list(self.notes),
        }


def read_ephemerides(path: str | Path, columns: Mapping[str, str] | None = None) -> Ephemerides:
    """Read a table of ephemerides: FITS, or whatever else astropy knows by its name (ECSV, CSV, VOTable).

    Parameters
    ----------
    path
        The file. Needed are a period, days, and a position or an obsid; used, if they are there, the period's error,
        the time of an eclipse (BJD, or BJD - 2400000) and its error.
    columns
        Names of its columns by the keys of :data:`USUAL`, where they are not among those.

    Raises
    ------
    EphemerisError
        If there is no such table, it lacks a column, its units are of something else, a period is 0 or negative, times
        are no Julian dates, or no row has a period.
    """
    path, asked = Path(path), dict(columns or {})
    if unknown := sorted(set(asked) - set(USUAL)):
        raise EphemerisError(f"there is no quantity {unknown[0]!r} to name a column of; there are {', '.join(USUAL)}")
    return _Reading(path, read_table(path, "ephemerides", EphemerisError), asked).ephemerides()


class _Reading(UserTable):
    usual = USUAL
    units = {**UserTable.units, **dict.fromkeys(("period", *_OPTIONAL), u.day)}  # noqa: RUF012 (as the base class)
    refused = EphemerisError

    def ephemerides(self) -> Ephemerides:
        placed = self.has("ra", "dec") or not self.has("obsid")
        self.require("period", *(("ra", "dec") if placed else ("obsid",)))
        for name in _OPTIONAL:
            if self.asked.get(name) is not None or self.has(name):
                self.require(name)
        period = self._periods()
        period_error, eclipse_error = self._errors("period_error"), self._errors("eclipse_error")
        eclipse = self._dates() if "eclipse" in self.names else np.full(len(period), np.nan)
        good = np.isfinite(period)
        if placed:
            ra, dec = self.values("ra"), self.values("dec")
            self.require_degrees(ra, dec)
            good &= has_position(ra, dec)
        if not good.all():
            self.notes.append(f"{int(np.sum(~good))} of its {len(good)} rows lack a period or a position: left out")
        if not good.any():
            self.refuse(f"no row has a finite {self.names['period']!r}", "ephemerides need periods")
        unsaid = good & ~(period_error > _LEAST_PART * period)
        if unsaid.any():
            self.notes.append(
                f"{int(unsaid.sum())} periods have no error, or one below {_LEAST_PART:g} of them: that is taken"
            )
        least = np.maximum(_ECLIPSE_ERROR * period, _LEAST_ECLIPSE_ERROR)
        known = np.where(eclipse_error > 0.0, np.maximum(eclipse_error, _LEAST_ECLIPSE_ERROR), least)
        rows = np.flatnonzero(good)
        return Ephemerides(
            path=self.path,
            columns=self.names,
            notes=tuple(self.notes),
            rows=len(self.table),
            row=rows,
            period=period[rows],
            period_error=np.fmax(period_error, _LEAST_PART * period)[rows],
            eclipse=eclipse[rows],
            eclipse_error=known[rows],
            ra=ra[rows] if placed else None,
            dec=dec[rows] if placed else None,
            obsid=None if placed else self.integers(self.names["obsid"])[rows],
        )

    def _periods(self) -> Array:
        values = self.values("period")
        wrong = np.flatnonzero(values <= 0.0)
        if len(wrong):
            self.refuse(
                f"row {wrong[0]} has {self.names['period']} = {values[wrong[0]]:g} days",
                "a period is above 0; leave the cell empty where it is unknown",
            )
        return np.where(np.isfinite(values), values, np.nan)

    def _errors(self, what: str) -> Array:
        """Errors; what is not above 0, as the -1 of some catalogs, is none, and so NaN."""
        if what not in self.names:
            return np.full(len(self.table), np.nan)
        values = self.values(what)
        return np.where(np.isfinite(values) & (values > 0.0), values, np.nan)

    def _dates(self) -> Array:
        """Times of eclipses as Julian dates; those of 2400000 days less get them back, odd ones are left out."""
        values, name = self.values("eclipse"), self.names["eclipse"]
        dates = julian_dates(values)
        if dates.completed:
            self.notes.append(f"{name!r} is taken for BJD - {OFFSET:.0f}")
        if len(dates.odd):
            first = f"{name} = {values[dates.odd[0]]:.10g}"
            if not dates.are_dates:
                self.refuse(
                    f"row {dates.odd[0]} has {first}, no Julian date", "give times of eclipses as BJD or BJD - 2400000"
                )
            self.notes.append(
                f"{len(dates.odd)} times of eclipses are no Julian dates, the first in row {dates.odd[0]} ({first}): "
                "left out"
            )
        return dates.date
