"""Known ephemerides as priors of a survey's orbits: of which stars they are, with errors that no clock undercuts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.grouping import RADIUS
from twinlines.pipeline.binaries.orbits.prior import Ephemeris
from twinlines.pipeline.usertables import ephemerides, matching
from twinlines.pipeline.usertables.ephemerides import Ephemerides, EphemerisError
from twinlines.pipeline.usertables.matching import Stars

Array = NDArray[np.float64]

_LEAST_PART = 1e-6  # of the period: its error where none is told, or one of zero
_ECLIPSE_ERROR = 0.01  # of the period: that of an eclipse whose error is not told
_LEAST_ECLIPSE_ERROR = 1e-3  # days; eclipses are timed by a clock of their own


def read_priors(
    path: str | Path, asked: Mapping[str, str | None] | None = None, offset: float | None = None
) -> Ephemerides:
    """Read ephemerides whose errors are those of priors: above 0, for the period and for an eclipse.

    Parameters
    ----------
    path, asked, offset
        As of :func:`twinlines.pipeline.usertables.ephemerides.read_ephemerides`, which raises what this does.
    """
    known = ephemerides.read_ephemerides(path, asked, offset)
    notes = list(known.notes)
    unsaid = known.usable & ~(known.period_error > _LEAST_PART * known.period)
    if unsaid.any():
        notes.append(f"{int(unsaid.sum())} periods have no error, or one below {_LEAST_PART:g} of them: that is taken")
    least = np.maximum(_ECLIPSE_ERROR * known.period, _LEAST_ECLIPSE_ERROR)
    timed = np.maximum(known.eclipse_error, _LEAST_ECLIPSE_ERROR)
    return replace(
        known,
        notes=tuple(notes),
        period_error=np.fmax(known.period_error, _LEAST_PART * known.period),
        eclipse_error=np.where(known.eclipse_error > 0.0, timed, least),
    )


def prior(known: Ephemerides, row: int) -> Ephemeris:
    """What a row of :func:`read_priors` says: the prior of an orbit; it does not tell which star is behind."""
    eclipse = float(known.eclipse[row])
    return Ephemeris(
        float(known.period[row]),
        float(known.period_error[row]),
        eclipse if np.isfinite(eclipse) else None,
        float(known.eclipse_error[row]),
    )


def match(
    known: Ephemerides, ra: Array, dec: Array, obsids: Mapping[int, int], radius: float = RADIUS
) -> dict[int, Ephemeris]:
    """Ephemerides by the number of the star that each is of.

    Parameters
    ----------
    known
        What :func:`read_priors` returns.
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
    by = known.by
    survey = Stars(ra, dec, np.fromiter(obsids, np.int64, len(obsids)))
    found = matching.match(known.stars, survey, radius, by)
    rows = np.flatnonzero(found.there)
    if len(ra) and not len(rows):
        of = f"one of the survey's {len(ra)} stars"
        raise EphemerisError(
            f"{known.table.path}: {matching.why_none(known.stars, known.table.columns, survey, radius, by, of)}"
        )
    places = found.index[rows]
    stars = places if by == "position" else np.fromiter(obsids.values(), np.int64, len(obsids))[places]
    matched: dict[int, int] = {}
    for star, row in zip(stars.tolist(), rows.tolist(), strict=True):
        if star in matched:
            first = matched[star]
            raise EphemerisError(
                f"{known.table.path}: rows {first} and {row} (periods {known.period[first]:g} and "
                f"{known.period[row]:g} d) are both of the star at ra {ra[star]:.5f}, dec {dec[star]:.5f}; keep one "
                "row of each star"
            )
        matched[star] = row
    return {star: prior(known, row) for star, row in matched.items()}
