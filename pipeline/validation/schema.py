"""The data model of a catalog's calibration, of injected binaries, and of completeness: names, dtypes and units.

The only place that knows these stored names; :mod:`twinlines.pipeline.schema` has those of the catalog, and
:mod:`twinlines.pipeline.catalog.questions` asks for two of them.
"""

from __future__ import annotations

from twinlines.pipeline.catalog.questions import BOUNDED_FALSE, EXPECTED_FALSE
from twinlines.pipeline.schema import METADATA, RESULTS, Schema, Variable


def _of_exposure(dtype: str, what: str) -> Variable:
    return Variable(("exposure",), dtype, "", what)


CALIBRATION = Schema(
    name="calibration",
    version=1,
    row="exposure",
    variables={
        **{name: METADATA[name] for name in ("obsid", "lmjm")},
        "content_hash": RESULTS.variables["content_hash"],
        "star": _of_exposure("int64", "Smallest obsid of the exposure's star; -1: no position"),
        "presumed_single": _of_exposure("bool", "Whether the star is one of the nulls"),
        "trust_class": _of_exposure("int16", "Class of S/N and type in which the star was tested; -1: none"),
        "p_value": _of_exposure("float64", "Chance that an exposure of a single star scores as high"),
        "star_visits": _of_exposure("int16", "Exposures by which the star was scored; 0: it was not"),
        "star_p_value": _of_exposure("float64", "Chance that a single star scores as high"),
        EXPECTED_FALSE: _of_exposure("float64", "Least false discovery rate, in the mean, that includes the star"),
        BOUNDED_FALSE: _of_exposure("float64", "Least bound of the false proportion that includes the star"),
    },
    chunk_rows=65536,
    shard_rows=65536,
)
"""What presumed single stars say of a catalog's exposures and stars: a row for each of the catalog's, in its order."""


def _of_source(dtype: str, units: str, what: str) -> Variable:
    return Variable(("source",), dtype, units, what)


COMPLETENESS = Schema(
    name="completeness",
    version=1,
    row="source",
    variables={
        "obsid": _of_source("int64", "", "Smallest obsid of the star"),
        "ra": _of_source("float64", "deg", "Right ascension (J2000), of the first exposure"),
        "dec": _of_source("float64", "deg", "Declination (J2000), of the first exposure"),
        "exposures": _of_source("int32", "", "Exposures that can be judged"),
        "best_snr": _of_source("float32", "", "S/N of the blue arm of the exposure that shows most"),
        "completeness": _of_source("float32", "", "Part of injected binaries found in an exposure such as the best"),
        "completeness_low": _of_source("float32", "", "Lower end of its 95 per cent interval"),
        "completeness_high": _of_source("float32", "", "Upper end of its 95 per cent interval"),
        "injections": _of_source("int32", "", "Injected binaries behind it; 0: none like it"),
    },
    chunk_rows=65536,
    shard_rows=65536,
)
"""Each star's own completeness; joined to :data:`twinlines.pipeline.binaries.schema.SOURCES` by ``obsid``."""


def _of_injection(dtype: str, units: str, what: str) -> Variable:
    return Variable(("injection",), dtype, units, what)


INJECTIONS = Schema(
    name="injections",
    version=1,
    row="injection",
    variables={
        "number": _of_injection("int64", "", "Serial number of the draw"),
        "star1": _of_injection("str", "", "Smallest obsid of the first star, a real single one of the survey"),
        "star2": _of_injection("str", "", "Smallest obsid of the second star"),
        "teff1": _of_injection("float32", "K", "Temperature of the first star's best template"),
        "teff2": _of_injection("float32", "K", "Temperature of the second star's best template"),
        "mass_ratio": _of_injection("float32", "", "Mass of the second star over the first's, on the main sequence"),
        "flux_ratio_B": _of_injection("float32", "", "Flux of the second star over the first's, blue arm"),
        "flux_ratio_R": _of_injection("float32", "", "Flux of the second star over the first's, red arm"),
        "separation": _of_injection("float32", "km s-1", "Velocity of the second star less the first's"),
        "velocity": _of_injection("float32", "km s-1", "Velocity of the first star"),
        "snr_B": _of_injection("float32", "", "Signal-to-noise ratio of the blue arm"),
        "snr_R": _of_injection("float32", "", "Signal-to-noise ratio of the red arm"),
        "rv_B": _of_injection("float32", "km s-1", "Radial velocity measured from the blue arm"),
        "rv_R": _of_injection("float32", "km s-1", "Radial velocity measured from the red arm"),
        "probability": _of_injection("float32", "", "Median binary probability, penalty 16, both arms together"),
        "candidate": _of_injection("bool", "", "Whether it is a candidate by the joint rule"),
    },
    chunk_rows=16384,
    shard_rows=16384,
)
"""Known binaries of a survey's own single stars, and what the chain says of them."""
