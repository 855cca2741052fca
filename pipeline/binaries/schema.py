"""The data model of what follows the verdict: two-star fits of exposures, and what they do not tell.

The only place that knows these stored names; :mod:`twinlines.pipeline.schema` has all others.
"""

from __future__ import annotations

from enum import IntFlag

from twinlines.pipeline.schema import COLOURS, METADATA, RESULTS, Schema, Variable


class FitQuality(IntFlag):
    """What a two-star fit does not tell, or not well; named bits of ``fit_quality``."""

    GOOD = 0
    NO_SPECTRUM = 1 << 0
    """No arm has a usable spectrum; nothing is fitted."""
    ONE_ARM = 1 << 1
    """Only one arm was fitted."""
    NOT_CONVERGED = 1 << 2
    """The fit used up its steps."""
    AT_LIMIT = 1 << 3
    """A temperature or velocity of either star, their ratio, the arms' offset or a fast rotation lies at a limit of the
    library, or of what is tried; its error means little."""
    RIVAL = 1 << 4
    """Other velocities explain the spectrum nearly as well."""
    UNRESOLVED = 1 << 5
    """The two velocities are nearer than the resolution and the rotation of both allow to tell apart."""
    NOT_DOUBLE = 1 << 6
    """``delta_chi2_diluted`` is no larger than noise, and lines that the library has wrong, make it of a single star,
    or the velocities are the same within their errors: the second star's columns mean nothing."""
    THIRD_STAR = 1 << 7
    """What two stars leave holds the lines of a third one."""
    ALIKE = 1 << 8
    """Which star is the first is not told: they give as much light, within the error."""


_FITTED_STAR = {
    "rv": ("km s-1", "Radial velocity"),
    "teff": ("K", "Effective temperature"),
    "logg": ("", "log10 of surface gravity in cm s-2"),
    "vsini": ("km s-1", "Projected rotational velocity"),
}


def _fitted(name: str, units: str, what: str) -> dict[str, Variable]:
    """A fitted parameter and its standard error."""
    row = ("exposure",)
    error = Variable(row, "float32", units, f"Standard error of {what[0].lower()}{what[1:]}")
    return {name: Variable(row, "float32", units, what), f"{name}_err": error}


def _two_stars() -> dict[str, Variable]:
    """Parameters of the best pair of stars of an exposure."""
    variables: dict[str, Variable] = {}
    for star, which in (("1", "brighter star"), ("2", "fainter star")):
        for name, (units, what) in _FITTED_STAR.items():
            variables |= _fitted(f"{name}{star}", units, f"{what}, {which}")
    variables["rv_covariance"] = Variable(("exposure",), "float32", "km2 s-2", "Covariance of both radial velocities")
    for arm, colour in COLOURS.items():
        variables |= _fitted(f"flux_ratio_{arm}", "", f"Flux of the fainter star over the brighter's, {colour} arm")
    variables |= _fitted("feh", "", "[Fe/H] of both stars")
    variables |= _fitted("alpha", "", "[alpha/Fe] of both stars")
    return variables | _fitted("arm_offset", "km s-1", "Zero point of velocity, red arm less blue arm")


FITS = Schema(
    name="fits",
    version=1,
    row="exposure",
    variables={
        **{name: METADATA[name] for name in ("obsid", "lmjm", "bjdmid")},
        **_two_stars(),
        **_fitted("rv_single", "km s-1", "Radial velocity of the best single star"),
        "vsini_single": Variable(("exposure",), "float32", "km s-1", "Rotational velocity of the best single star"),
        "teff_single": Variable(("exposure",), "float32", "K", "Effective temperature of the best single star"),
        "chi2": Variable(("exposure",), "float32", "", "chi2 of the best pair, over what noise alone makes it"),
        "delta_chi2": Variable(("exposure",), "float32", "", "chi2 of the best single star less that of the best pair"),
        "delta_chi2_diluted": Variable(
            ("exposure",), "float32", "", "chi2 of the best single star under featureless light less the best pair's"
        ),
        "delta_chi2_third": Variable(("exposure",), "float32", "", "What a third star would take from chi2, about"),
        "fit_pixels": Variable(("exposure",), "int32", "", "Pixels that were fitted"),
        "fit_quality": Variable(("exposure",), "uint16", "", "Quality bits of the fit; see schema.FitQuality"),
        "content_hash": RESULTS.variables["content_hash"],
    },
    chunk_rows=4096,
    shard_rows=4096,
)
"""Two-star fits of exposures: a survey's, beside its catalogs, or those of a few spectra."""
