"""What columns of users' tables may hold: the names that they usually have, and the units in which numbers are wanted.

Keys are what the package calls a quantity; commands take other names of columns by them (``--period-column``).
"""

from __future__ import annotations

from collections.abc import Mapping

import astropy.units as u

USUAL: Mapping[str, tuple[str, ...]] = {
    "ra": (
        *("ra", "ra_icrs", "raj2000", "_raj2000", "_ra", "ra_deg", "radeg", "ra_obs", "ra_gaia", "ra_x", "alpha"),
        *("raicrs", "ra_j2000", "_ra_icrs", "ra2000"),
    ),
    "dec": (
        *("dec", "de_icrs", "dec_icrs", "dej2000", "decj2000", "_dej2000", "_de", "_dec", "dec_deg", "dedeg", "decdeg"),
        *("dec_obs", "dec_gaia", "dec_x", "delta", "de", "deicrs", "dec_j2000", "_de_icrs", "dec2000", "de2000"),
    ),
    "obsid": ("obsid", "lamost_obsid"),
    "name": ("name", "kic", "apogee_id", "objname", "object", "star", "id", "designation", "source_id", "gaia", "seq"),
    "velocity": ("radial_velocity", "dr2_radial_velocity", "rv_ref", "rv", "vrad", "rvel"),
    "error": ("radial_velocity_error", "dr2_radial_velocity_error", "rv_ref_err", "rv_err", "rv_error", "e_rv"),
    "period": ("period", "per", "porb", "p_orb", "orbital_period", "period_d", "pday", "map_p"),
    "period_error": (
        *("period_error", "period_err", "e_period", "e_per", "per_err", "perioderr", "perr", "sigma_period"),
    ),
    "eclipse": ("bjd0", "eclipse", "t0", "hjd0", "t_eclipse", "epoch", "tmin", "bjd_0", "t_0"),
    "eclipse_error": (
        *("bjd0_err", "eclipse_error", "t0_err", "t0_error", "e_t0", "e_bjd0", "epoch_err", "tmin_err", "bjd0err"),
    ),
    "separation": ("sep",),
    "parallax": ("parallax", "plx", "parallax_mas"),
    "parallax_error": ("parallax_error", "e_plx", "parallax_err"),
    "g": ("phot_g_mean_mag", "gmag", "g_mag"),
    "bp": ("phot_bp_mean_mag", "bpmag", "bp_mag", "bp"),
    "rp": ("phot_rp_mean_mag", "rpmag", "rp_mag", "rp"),
    "bp_rp": ("bp_rp", "bp-rp", "bprp"),
    "ruwe": ("ruwe",),
    "ebv": ("ebv", "e_bv", "e(b-v)", "ebminv", "e_b_v"),
    "a_g": ("ag_gspphot", "a_g", "ag", "a_g_val"),
    "e_bp_rp": ("ebpminrp_gspphot", "e_bp_rp", "ebprp", "e_bp_min_rp_val", "e(bp-rp)"),
}
"""Usual names of columns, whatever their case, the likeliest first."""

NEEDED: Mapping[str, tuple[str, ...]] = {"period": ("p",)}
"""Further names of columns that a table must have; where a period is only wanted, P may be a probability."""

UNITS: Mapping[str, u.UnitBase] = {
    "ra": u.deg,
    "dec": u.deg,
    **dict.fromkeys(("velocity", "error"), u.km / u.s),
    **dict.fromkeys(("period", "period_error", "eclipse", "eclipse_error"), u.d),
    **dict.fromkeys(("parallax", "parallax_error"), u.mas),
    **dict.fromkeys(("g", "bp", "rp", "bp_rp", "ebv", "a_g", "e_bp_rp"), u.mag),
}
"""Units that numbers are converted to; those of other quantities are bare."""

SOURCE_IDS = ("source_id", "gaia_source_id", "gaiadr3", "gaiaedr3", "dr3name", "source")
"""Usual names of a column of Gaia's identifiers."""


def is_usual(what: str, name: str) -> bool:
    """Whether ``name`` is found for a column of ``what`` without being named, as those of RAh to DEs are."""
    return name.lower() in (*USUAL[what], *NEEDED.get(what, ())) or "," in name
