"""The data model of what follows the verdict: two-star fits of exposures, and what they do not tell.

The only place that knows these stored names; :mod:`twinlines.pipeline.schema` has all others.
"""

from __future__ import annotations

from enum import IntFlag

from twinlines.pipeline.schema import BANDS, COLOURS, METADATA, RESULTS, Schema, Variable, of_exposure


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
    MOONLIGHT = 1 << 9
    """The second star may be the Moon's light: it is like the Sun, at the velocity of the Moon's light, with the Moon
    up. Of real binaries' exposures one in twenty is so by chance; all of a star's are not."""


NO_SECOND_STAR = FitQuality.NO_SPECTRUM | FitQuality.NOT_DOUBLE
"""Bits of which any says that a fit shows no two stars."""

_VELOCITY = "spect.dopplerVeloc.opt"
_AMPLITUDE = f"src.var.amplitude;{_VELOCITY}"
_MASS_RATIO = "phys.mass;arith.ratio"
_LEAST_MASS = "phys.mass;stat.min"
_FITTED_STAR = {
    "rv": ("km s-1", "Radial velocity", _VELOCITY),
    "teff": ("K", "Effective temperature", "phys.temperature.effective"),
    "logg": ("", "log10 of surface gravity in cm s-2", "phys.gravity"),
    "vsini": ("km s-1", "Projected rotational velocity", "phys.veloc.rotat"),
}


def _fitted(name: str, units: str, what: str, ucd: str) -> dict[str, Variable]:
    """A fitted parameter and its standard error."""
    error = of_exposure("float32", units, f"Standard error of {what[0].lower()}{what[1:]}", f"stat.error;{ucd}")
    return {name: of_exposure("float32", units, what, ucd), f"{name}_err": error}


def _two_stars() -> dict[str, Variable]:
    """Parameters of the best pair of stars of an exposure."""
    variables: dict[str, Variable] = {}
    for star, which in (("1", "brighter star"), ("2", "fainter star")):
        for name, (units, what, ucd) in _FITTED_STAR.items():
            variables |= _fitted(f"{name}{star}", units, f"{what}, {which}", ucd)
    variables["rv_covariance"] = of_exposure(
        "float32", "km2 s-2", "Covariance of both radial velocities", f"stat.covariance;{_VELOCITY}"
    )
    for arm, colour in COLOURS.items():
        variables |= _fitted(
            f"flux_ratio_{arm}",
            "",
            f"Flux of the fainter star over the brighter's, {colour} arm",
            f"phot.flux;arith.ratio;{BANDS[arm]}",
        )
    variables |= _fitted("feh", "", "[Fe/H] of both stars", "phys.abund.Fe")
    variables |= _fitted("alpha", "", "[alpha/Fe] of both stars", "phys.abund.X")
    return variables | _fitted(
        "arm_offset", "km s-1", "Zero point of velocity, red arm less blue arm", f"{_VELOCITY};arith.diff"
    )


FITS = Schema(
    name="fits",
    version=1,
    row="exposure",
    variables={
        **{name: METADATA[name] for name in ("obsid", "lmjm", "bjdmid")},
        **_two_stars(),
        **_fitted("rv_single", "km s-1", "Radial velocity of the best single star", _VELOCITY),
        "vsini_single": of_exposure(
            "float32", "km s-1", "Rotational velocity of the best single star", "phys.veloc.rotat"
        ),
        "teff_single": of_exposure(
            "float32", "K", "Effective temperature of the best single star", "phys.temperature.effective"
        ),
        "chi2": of_exposure("float32", "", "chi2 of the best pair, over what noise alone makes it", "stat.fit.chi2"),
        "delta_chi2": of_exposure(
            "float32", "", "chi2 of the best single star less that of the best pair", "stat.fit.chi2;arith.diff"
        ),
        "delta_chi2_diluted": of_exposure(
            "float32",
            "",
            "chi2 of the best single star under featureless light less the best pair's",
            "stat.fit.chi2;arith.diff",
        ),
        "delta_chi2_third": of_exposure(
            "float32", "", "What a third star would take from chi2, about", "stat.fit.chi2;arith.diff"
        ),
        "fit_pixels": of_exposure("int32", "", "Pixels that were fitted", "meta.number;instr.pixel"),
        "fit_quality": of_exposure(
            "uint16", "", "Quality bits of the fit; see schema.FitQuality", "meta.code.qual", FitQuality
        ),
        "content_hash": RESULTS.variables["content_hash"],
    },
    chunk_rows=4096,
    shard_rows=4096,
)
"""Two-star fits of exposures: a survey's, beside its catalogs, or those of a few spectra."""

_SCALED = {"rv1": "Velocity of the brighter star", "rv2": "Velocity of the fainter star"}

ON_SCALE: dict[str, Variable] = {
    **{
        f"{name}{end}": of_exposure("float32", "km s-1", f"{start}{what}, zero points added", ucd)
        for name, what in (*_SCALED.items(), ("rv_single", "Velocity of the best single star"))
        for end, start, ucd in (
            ("_abs", "", _VELOCITY),
            ("_abs_err", "Total error: ", f"stat.error;{_VELOCITY}"),
        )
    },
    "rv_abs_covariance": of_exposure(
        "float32", "km2 s-2", "Covariance of both velocities, zero points added", f"stat.covariance;{_VELOCITY}"
    ),
    "rv_abs_group": of_exposure(
        "int32", "", "Exposures of one number have one scale; -1: no zero point", "meta.id;meta.dataset"
    ),
}
"""What zero points make of a fit's velocities (:mod:`.zeropoints.pairs`): columns beside those of :data:`FITS`, of
exposures of a catalog that has zero points; never stored."""

_ORBIT = {
    "period": ("d", "Orbital period", "time.period"),
    "t_periastron": ("d", "Time of a periastron passage, BJD (TDB)", "time.epoch"),
    "eccentricity": ("", "Eccentricity", "src.orbital.eccentricity"),
    "arg_periastron": ("deg", "Argument of periastron of the brighter star", "src.orbital.periastron"),
    "center_of_mass_velocity": ("km s-1", "Systemic velocity", _VELOCITY),
    "semi_amplitude_primary": ("km s-1", "Velocity semi-amplitude of the brighter star", _AMPLITUDE),
    "semi_amplitude_secondary": ("km s-1", "Velocity semi-amplitude of the fainter star", _AMPLITUDE),
    "mass_ratio": ("", "Mass of the fainter star over the brighter's", _MASS_RATIO),
    "minimum_mass_primary": ("solMass", "Mass of the brighter star times sin^3 i", _LEAST_MASS),
    "minimum_mass_secondary": ("solMass", "Mass of the fainter star times sin^3 i", _LEAST_MASS),
    "projected_axis_primary": ("solRad", "Semi-major axis of the brighter star times sin i", "phys.size.smajAxis"),
    "projected_axis_secondary": ("solRad", "Semi-major axis of the fainter star times sin i", "phys.size.smajAxis"),
}
_OF_SOURCE = ("source",)


def _number(dtype: str, units: str, what: str, ucd: str) -> Variable:
    return Variable(_OF_SOURCE, dtype, units, what, ucd)


def _elements(row: tuple[str, ...]) -> dict[str, Variable]:
    """Elements of an orbit, then their standard errors."""
    elements = {name: Variable(row, "float64", units, what, ucd) for name, (units, what, ucd) in _ORBIT.items()}
    errors = {
        f"{name}_error": Variable(row, "float64", units, f"Standard error: {what}", f"stat.error;{ucd}")
        for name, (units, what, ucd) in _ORBIT.items()
    }
    return elements | errors


_EVIDENCE = {
    "epochs_judged": _number("int32", "", "Exposures with a verdict of the networks", "meta.number;obs"),
    "nights": _number("int32", "", "Nights with a verdict", "meta.number;obs"),
    "nights_double": _number("int32", "", "Nights that look double rather than single", "meta.number;obs"),
    "best_log_ratio": _number(
        "float32", "", "ln likelihood of two stars' light over one's, the most of a night", "stat.likelihood;stat.max"
    ),
    "sb2_log_evidence": _number(
        "float32", "", "ln likelihood of a double-lined binary over that of any other star", "stat.likelihood"
    ),
    "sb2_probability": _number(
        "float64", "", "Probability to be a double-lined binary, by all exposures", "stat.probability"
    ),
    "sb1_probability": _number(
        "float64", "", "Probability to be a single-lined binary, by all exposures", "stat.probability"
    ),
    "rv_nights": _number("int32", "", "Nights that look single and have a velocity", "meta.number;obs"),
    "rv_mean": _number("float32", "km s-1", "Mean velocity of them", f"{_VELOCITY};stat.mean"),
    "rv_range": _number("float32", "km s-1", "Largest less smallest velocity of them", f"{_VELOCITY};arith.diff"),
    "rv_excess": _number(
        "float32", "km s-1", "Standard deviation of their velocities beyond the errors", f"{_VELOCITY};stat.stdev"
    ),
    "rv_p_value": _number(
        "float32", "", "Chance that a constant velocity scatters as much as they do", "stat.probability"
    ),
}
"""What all exposures of a star say; :class:`twinlines.pipeline.binaries.evidence.evidence.Evidence`."""

SOURCES = Schema(
    name="sources",
    version=4,
    row="source",
    variables={
        "obsid": _number("int64", "", "Smallest obsid of the star", "meta.id;obs.sequence"),
        "ra": _number("float64", "deg", "Right ascension (J2000), mean", "pos.eq.ra;meta.main"),
        "dec": _number("float64", "deg", "Declination (J2000), mean", "pos.eq.dec;meta.main"),
        "epochs": _number("int32", "", "Exposures of the star", "meta.number;obs"),
        "epochs_both": _number("int32", "", "Exposures of which both arms have a velocity", "meta.number;obs"),
        "epochs_fitted": _number("int32", "", "Exposures to which two stars were fitted", "meta.number;obs"),
        "epochs_double": _number("int32", "", "Exposures that show two stars, resolved", "meta.number;obs"),
        "epochs_moonlight": _number(
            "int32", "", "Of these, those whose second star may be the Moon's light", "meta.number;obs"
        ),
        "epochs_blended": _number(
            "int32", "", "Exposures at which the two stars' lines lie together", "meta.number;obs"
        ),
        "bjd_first": _number("float64", "d", "Time of the first exposure, BJD (TDB)", "time.epoch;stat.min"),
        "bjd_last": _number("float64", "d", "Time of the last exposure, BJD (TDB)", "time.epoch;stat.max"),
        "best_probability": _number(
            "float32", "", "Largest median binary probability by both arms, penalty 16", "stat.probability;stat.max"
        ),
        **_EVIDENCE,
        "delta_chi2_sum": _number(
            "float32", "", "delta_chi2_diluted of all exposures that were fitted, summed", "stat.fit.chi2;arith.diff"
        ),
        "separation_largest": _number(
            "float32", "km s-1", "Largest velocity difference of the two stars", f"{_VELOCITY};arith.diff;stat.max"
        ),
        "flux_ratio": _number(
            "float32",
            "",
            "Flux of the fainter star over the brighter's, blue arm, all epochs",
            "phot.flux;arith.ratio;em.opt.V",
        ),
        "wilson_mass_ratio": _number(
            "float64", "", "Mass of the fainter star over the brighter's, velocities alone", _MASS_RATIO
        ),
        "wilson_mass_ratio_error": _number("float64", "", "Standard error of it", f"stat.error;{_MASS_RATIO}"),
        "wilson_velocity": _number("float64", "km s-1", "Systemic velocity, velocities alone", _VELOCITY),
        "wilson_velocity_error": _number("float64", "km s-1", "Standard error of it", f"stat.error;{_VELOCITY}"),
        "wilson_p_value": _number(
            "float64", "", "Chance that one binary's epochs are as far off their line", "stat.probability"
        ),
        "wilson_status": _number("int16", "", "Bits of the mass ratio; see components.LineStatus", "meta.code.qual"),
        "velocities_hash": _number(
            "uint64", "", "First 64 bits of a hash of the velocities that an orbit is made of", "meta.checksum"
        ),
        **_elements(_OF_SOURCE),
        "modes": _number("int32", "", "Periods that the posterior tells apart", "meta.number;time.period"),
        "mode_probability": _number("float64", "", "Probability of the best period", "stat.probability;time.period"),
        "orbit_chi2": _number("float64", "", "chi2 of the best orbit, jitter included", "stat.fit.chi2"),
        "orbit_freedom": _number("int32", "", "Velocities less parameters of it", "stat.fit.dof"),
        "jitter": _number("float64", "km s-1", "Added to every velocity's error", f"stat.error;{_VELOCITY}"),
        "orbit_status": _number("int16", "", "Bits of the orbit; see orbits.summary.OrbitStatus", "meta.code.qual"),
    },
    chunk_rows=4096,
    shard_rows=4096,
)
"""All stars of a catalog: evidence for a second star; of those of which an exposure shows two sets of lines, mass
ratio, systemic velocity, and the best orbit, where one was sampled."""

_OF_SOLUTION = ("solution",)
_VELOCITIES = f"meta.number;{_VELOCITY}"
_LIMITS = {
    "limit_separation": ("km s-1", "Largest difference of the two velocities at an epoch", f"{_VELOCITY};arith.diff"),
    "limit_separation_error": ("km s-1", "Standard error of it", f"stat.error;{_VELOCITY}"),
    "limit_amplitude_sum": ("km s-1", "Least (K1 + K2) (1 + e), with 95 % confidence", f"{_VELOCITY};stat.min"),
    "limit_total_mass": ("solMass", "Least m1 + m2 of a circular orbit, whatever the period", _LEAST_MASS),
    "limit_longest_period": (
        "d",
        "Longest period of a circular orbit of stars of limit_most_mass",
        "time.period;stat.max",
    ),
    "limit_most_mass": ("solMass", "Largest m1 + m2 that is thinkable", "phys.mass;stat.max"),
}


def _of_solution(dtype: str, units: str, what: str, ucd: str) -> Variable:
    return Variable(_OF_SOLUTION, dtype, units, what, ucd)


ORBITS = Schema(
    name="orbits",
    version=1,
    row="solution",
    variables={
        "obsid": _of_solution("int64", "", "Smallest obsid of the star", "meta.id;obs.sequence"),
        "velocities_hash": _of_solution(
            "uint64", "", "Of the velocities that were fitted; as in sources", "meta.checksum"
        ),
        "solution_id": _of_solution(
            "int32", "", "Number of the solution among the star's, 0 the likeliest", "meta.id;meta.modelled"
        ),
        "mode_probability": _of_solution(
            "float64", "", "Probability of the solution's period; NaN: limits", "stat.probability;time.period"
        ),
        "modes": _of_solution("int32", "", "Periods that the star's posterior tells apart", "meta.number;time.period"),
        **_elements(_OF_SOLUTION),
        "rv_n_obs_primary": _of_solution("int32", "", "Epochs with velocities of the brighter star", _VELOCITIES),
        "rv_n_obs_secondary": _of_solution("int32", "", "Epochs with velocities of the fainter star", _VELOCITIES),
        "rv_n_nights": _of_solution("int32", "", "Nights with such epochs", "meta.number;obs"),
        "obj_func": _of_solution("float64", "", "chi2 of the orbit, jitter included", "stat.fit.chi2"),
        "freedom": _of_solution("int32", "", "Velocities less parameters", "stat.fit.dof"),
        "jitter": _of_solution(
            "float64", "km s-1", "Added in quadrature to every velocity's error", f"stat.error;{_VELOCITY}"
        ),
        "effective_samples": _of_solution(
            "float64", "", "Effective samples of the star's posterior", "meta.number;stat.fit.param"
        ),
        "flags": _of_solution("int16", "", "Bits of the orbit; see orbits.summary.OrbitStatus", "meta.code.qual"),
        "ephemeris_period": _of_solution(
            "float64", "d", "Period of the ephemeris that took part, or NaN", "time.period"
        ),
        **{name: _of_solution("float64", *told) for name, told in _LIMITS.items()},
    },
    chunk_rows=4096,
    shard_rows=4096,
)
"""Orbits of a survey's stars: a row for each solution, those of a star together, the likeliest first; one row of limits
for a star that has too few epochs. Names are those of Gaia's nss_two_body_orbit, where it has the quantity."""

_OF_SAMPLE = ("sample",)
_SAMPLED = (
    *("period", "t_periastron", "eccentricity", "arg_periastron", "center_of_mass_velocity"),
    *("semi_amplitude_primary", "semi_amplitude_secondary"),
)

ORBIT_SAMPLES = Schema(
    name="orbit_samples",
    version=1,
    row="sample",
    variables={
        "obsid": Variable(_OF_SAMPLE, "int64", "", "Smallest obsid of the star", "meta.id;obs.sequence"),
        "solution_id": Variable(
            _OF_SAMPLE, "int32", "", "Solution of the same period; -1: one that has no row", "meta.id;meta.modelled"
        ),
        **{
            name: Variable(_OF_SAMPLE, "float64" if name in _SAMPLED[:2] else "float32", *_ORBIT[name])
            for name in _SAMPLED
        },
    },
    chunk_rows=65536,
    shard_rows=65536,
)
"""Posterior samples of orbits, equally likely ones, those of a star together; of the stars with the surest periods."""

_SAME = ("obsid", "ra", "dec")
_AS_GAIA = (
    *("period", "t_periastron", "eccentricity", "center_of_mass_velocity", "semi_amplitude_primary"),
    *("semi_amplitude_secondary", "mass_ratio", "arg_periastron"),
)
_OURS = (*("minimum_mass_primary", "minimum_mass_secondary", "projected_axis_primary", "projected_axis_secondary"),)

GAIA_ORBITS: dict[str, Variable] = {
    "nss_solution_type": _number("str", "", "Kind of the solution: SB2, both stars' velocities", "src.class"),
    **{name: SOURCES.variables[name] for name in _SAME},
    **{f"{name}{end}": SOURCES.variables[f"{name}{end}"] for name in _AS_GAIA for end in ("", "_error")},
    "obj_func": _number("float64", "", "chi2 of the orbit, jitter included", "stat.fit.chi2"),
    "goodness_of_fit": _number(
        "float64", "", "F2: chi2 as a standard normal variable (Wilson & Hilferty 1931)", "stat.fit.goodness"
    ),
    "conf_spectro_period": _number("float64", "", "Probability of the period", "stat.probability;time.period"),
    "rv_n_obs_primary": _number("int32", "", "Velocities of the brighter star", "meta.number;obs"),
    "rv_n_obs_secondary": _number("int32", "", "Velocities of the fainter star", "meta.number;obs"),
    **{f"{name}{end}": SOURCES.variables[f"{name}{end}"] for name in _OURS for end in ("", "_error")},
    **{name: SOURCES.variables[name] for name in ("orbit_freedom", "jitter", "modes", "orbit_status")},
}
"""Orbits under the names that Gaia's table ``nss_two_body_orbit`` has, and those of ours that it has not. Times are
Barycentric Julian dates, where Gaia's are days from 2016.0."""

GAIA_SOLUTIONS: dict[str, Variable] = {
    "nss_solution_type": GAIA_ORBITS["nss_solution_type"],
    "obsid": ORBITS.variables["obsid"],
    **{name: GAIA_ORBITS[name] for name in ("ra", "dec")},
    "solution_id": ORBITS.variables["solution_id"],
    **{name: GAIA_ORBITS[name] for name in ("conf_spectro_period", "goodness_of_fit")},
    **{name: variable for name, variable in ORBITS.variables.items() if name != "mode_probability"},
}
"""All solutions of all stars (:data:`ORBITS`), with positions, under Gaia's names as :data:`GAIA_ORBITS`; the rows of
stars that have limits alone have no ``nss_solution_type``."""
