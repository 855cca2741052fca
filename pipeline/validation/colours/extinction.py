"""Extinction of stars in Gaia's bands: from columns of their table, or from a dust map that the user has.

Maps come through the package ``dustmaps``, which the extra ``dust`` installs; their data are downloaded by its own
functions once, and looked for where its configuration says.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from twinlines.pipeline.usertables.stars import StarTable
from twinlines.pipeline.validation.observed import ValidationError

Array = NDArray[np.float64]
Source = Literal["columns", "bayestar", "sfd", "none"]
"""Where extinction comes from."""

A_G, E_BP_RP = 2.740, 3.374 - 2.035
"""A_G and E(BP - RP) over E(B - V) (Casagrande and VandenBerg 2018, MNRAS 479, L102, mean coefficients)."""


class _Map(NamedTuple):
    module: str
    name: str
    arguments: Mapping[str, Any]
    asked: Mapping[str, Any]
    scale: float  # E(B - V) over the map's unit
    three_d: bool
    fetched: str


MAPS: Mapping[str, _Map] = {
    # Green et al. (2019), the paper's: 0.884 of its unit is an E(B - V) (its web page).
    "bayestar": _Map(
        *("dustmaps.bayestar", "BayestarQuery", {"version": "bayestar2019"}, {"mode": "median"}, 0.884, True),
        "dustmaps.bayestar.fetch()",
    ),
    # Schlegel, Finkbeiner and Davis (1998), recalibrated by Schlafly and Finkbeiner (2011): all dust ahead.
    "sfd": _Map("dustmaps.sfd", "SFDQuery", {}, {}, 0.86, False, "dustmaps.sfd.fetch()"),
}
"""Dust maps by their names."""


@dataclass(frozen=True)
class Extinction:
    """Extinction of stars; arrays of shape (star,), NaN where it is not known."""

    source: Source
    """Where it comes from."""
    words: str
    """The same in words, with the numbers that were used."""
    a_g: Array
    """Extinction in G, mag."""
    e_bp_rp: Array
    """Reddening of BP - RP, mag."""


def has_columns(table: StarTable) -> bool:
    """Whether a table has columns of extinction."""
    return "ebv" in table.values or {"a_g", "e_bp_rp"} <= set(table.values)


def from_columns(table: StarTable, rows: NDArray[np.int64]) -> Extinction:
    """Extinction by a table's columns, of some of its rows: A_G and E(BP - RP) if it has both, else E(B - V).

    Raises
    ------
    ValidationError
        If it has neither.
    """
    if {"a_g", "e_bp_rp"} <= set(table.values):
        names = ", ".join(table.columns[what] for what in ("a_g", "e_bp_rp"))
        return Extinction(
            "columns", f"A_G and E(BP-RP) from {names}", table.values["a_g"][rows], table.values["e_bp_rp"][rows]
        )
    if "ebv" not in table.values:
        raise ValidationError(
            f"{table.path} has no columns of extinction (A_G and E(BP-RP), such as ag_gspphot and ebpminrp_gspphot, or "
            "E(B-V), such as ebv); name them, or give --extinction bayestar, sfd or none"
        )
    ebv = table.values["ebv"][rows]
    words = f"E(B-V) from {table.columns['ebv']}, A_G = {A_G:g} E(B-V), E(BP-RP) = {E_BP_RP:.3f} E(B-V)"
    return Extinction("columns", words, A_G * ebv, E_BP_RP * ebv)


def from_map(name: str, ra: Array, dec: Array, distance: Array, scale: float | None = None) -> Extinction:
    """Extinction by a dust map.

    Parameters
    ----------
    name
        One of :data:`MAPS`.
    ra, dec
        (star,) positions, deg.
    distance
        (star,) distances, pc; a star without is not corrected by a map in three dimensions.
    scale
        E(B - V) over the map's unit, if not the usual one.

    Raises
    ------
    ValidationError
        If ``dustmaps`` is not installed, or the map's data are not there.
    """
    about = MAPS[name]
    scale = about.scale if scale is None else scale
    with redirect_stdout(sys.stderr):  # dustmaps prints how it loads, and standard output is for answers
        query = _open(name, about)
    known = np.isfinite(ra) & np.isfinite(dec)
    if about.three_d:
        known &= np.isfinite(distance) & (distance > 0.0)
    ebv = np.full(len(ra), np.nan)
    if known.any():
        away = {"distance": distance[known] * u.pc} if about.three_d else {}
        ebv[known] = scale * np.asarray(
            query(SkyCoord(ra[known] * u.deg, dec[known] * u.deg, **away), **about.asked), np.float64
        )
    words = f"dust map {name}, E(B-V) = {scale:g} of its unit, A_G = {A_G:g} E(B-V), E(BP-RP) = {E_BP_RP:.3f} E(B-V)"
    return Extinction("bayestar" if name == "bayestar" else "sfd", words, A_G * ebv, E_BP_RP * ebv)


def nothing(stars: int) -> Extinction:
    """No extinction."""
    return Extinction("none", "none: colours and magnitudes as they are seen", np.zeros(stars), np.zeros(stars))


def _open(name: str, about: _Map) -> Callable[..., Any]:
    try:
        module = importlib.import_module(about.module)
    except ImportError as error:
        raise ValidationError(
            f"the dust map {name} needs the package dustmaps ({error}); 'pip install twinlines[dust]' installs it, "
            f"{about.fetched} then downloads the map; or give --extinction columns or none"
        ) from error
    try:
        query: Callable[..., Any] = getattr(module, about.name)(**about.arguments)
    except Exception as error:  # dustmaps raises whatever its readers do where the data are missing
        raise ValidationError(
            f"the dust map {name} cannot be opened ({str(error).splitlines()[0] if str(error) else repr(error)}); its "
            f"data must be where dustmaps.config says: {about.fetched} downloads them there"
        ) from error
    return query
