"""The data model: every stored Dataset's dimensions, names, dtypes and units, and their validation.

This is the only place that knows a stored name, unit or dtype, but for what follows the verdict, which
:mod:`twinlines.pipeline.binaries.schema` describes. Everything is Zarr format 3 and is opened as an xarray
Dataset; :mod:`twinlines.pipeline.storage.stores` creates, writes and opens what is described here.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from twinlines.models.vocabulary import HEADS as HEADS
from twinlines.models.vocabulary import JOINT as JOINT
from twinlines.models.vocabulary import KINDS as KINDS
from twinlines.models.vocabulary import PERCENTILES as PERCENTILES
from twinlines.models.vocabulary import SPLITS as SPLITS
from twinlines.pipeline.arms import ARM_NAMES, BLUE, NATIVE_PIXELS, RED
from twinlines.pipeline.datasets import Schema as Schema
from twinlines.pipeline.datasets import SchemaError as SchemaError
from twinlines.pipeline.datasets import Variable as Variable

CATALOG_PENALTIES = (8, 16, 32)
"""Penalties (Lambda) whose probabilities the catalog keeps (Zhang et al. 2022, Table 4)."""

COLOURS = {"B": "blue", "R": "red"}

BANDS = {"B": "em.opt.V", "R": "em.opt.R", JOINT: "em.opt"}
"""UCD1+ of the arms' wavelengths: 495 to 535 and 630 to 680 nm."""

POPULATIONS = ("table1", "cool_giant", "blend", "field", "observed")
"""Meaning of the codes 0, 1, 2, 3, 4 of the pairs' variable ``population``. The variable's own description stops before
the last, so that sets made before there was one still open."""

DISTURBANCES = (
    "activity",
    "accretion",
    "nebula",
    "unresolved",
    "dilution",
    "resolution",
    "stretch",
    "sky",
    "defects",
)
"""Meaning of the bits 1, 2, 4, ... of the pairs' variable ``disturbed``."""

MINIMUM_SNR = 5.0
"""An arm takes part where its header S/N is above this (strictly; Zhang et al. 2022, Table 4)."""

MAXIMUM_BAD_PIXELS = 100
"""An arm with as many masked or repaired pixels on the grid is doubtful (Zhang et al. 2022, section 4.5)."""

HEALPIX_ORDER = 29
"""Order of the catalog's HEALPix index: the finest that 64 bits hold, 0.4 milliarcseconds."""


class Quality(IntFlag):
    """Why an arm of an exposure has no result, or a doubtful one; named bits of ``quality_B`` and ``quality_R``."""

    GOOD = 0
    NO_ARM = 1 << 0
    """The file has no exposure of this arm at this time."""
    LOW_SNR = 1 << 1
    """Header S/N at or below :data:`MINIMUM_SNR`; neither velocity nor probabilities are computed."""
    BAD_PIXELS = 1 << 2
    """100 or more masked or repaired pixels on the grid; the candidates' cut refuses the row."""
    DESPIKE_FAILED = 1 << 3
    """More than half of the pixels were flagged as spikes; the flux is used as it stands."""
    NO_CONTINUUM = 1 << 4
    """Too few usable pixels for a continuum; no velocity and no probabilities."""
    NO_VELOCITY = 1 << 5
    """No significant correlation peak, or one at the edge of the search; no probabilities."""
    OFF_GRID = 1 << 6
    """The arm's pixels, shifted to the rest frame, do not cover the grid; no probabilities."""
    AMBIGUOUS_VELOCITY = 1 << 7
    """Another velocity explains the spectrum nearly as well, or the best template explains little of it; the velocity's
    error is at least the distance to the farthest such velocity."""
    UNFAMILIAR = 1 << 8
    """No star of the library, and no two, explain the spectrum: its misfit is above
    :data:`twinlines.pipeline.spectra.familiarity.UNFAMILIAR_ABOVE`. What the networks say of it is a guess."""
    ONE_ARM = 1 << 9
    """This arm is judged and the other is not, so that there is no verdict of both (``pb_pct_J_*`` is NaN)."""


FATAL = Quality.NO_ARM | Quality.LOW_SNR | Quality.NO_CONTINUUM | Quality.NO_VELOCITY | Quality.OFF_GRID
"""Bits that leave an arm without probabilities."""


def of_exposure(dtype: str, units: str, what: str, ucd: str = "", bits: type[IntFlag] | None = None) -> Variable:
    """A variable of which each exposure has one value."""
    return Variable(("exposure",), dtype, units, what, ucd, bits)


METADATA = {
    "obsid": of_exposure("int64", "", "LAMOST observation identifier, one per FITS file", "meta.id;obs.sequence"),
    "lmjm": of_exposure("int32", "min", "Local modified Julian minute of the start of the exposure", "time.start"),
    "bjdmid": of_exposure("float64", "d", "Barycentric Julian date (TDB) of the middle of the exposure", "time.epoch"),
    "lmjd": of_exposure("int32", "d", "Local modified Julian day, as in file names", "time.start;obs"),
    "planid": of_exposure("str", "", "Plan identifier", "meta.id;obs.field"),
    "spid": of_exposure("int16", "", "Spectrograph identifier, 1 to 16", "meta.id;instr"),
    "fiberid": of_exposure("int16", "", "Fibre identifier, 1 to 250", "meta.id;instr.det"),
    "ra": of_exposure("float64", "deg", "Right ascension (J2000)", "pos.eq.ra;meta.main"),
    "dec": of_exposure("float64", "deg", "Declination (J2000)", "pos.eq.dec;meta.main"),
}
_KEPT_PER_ROW = {
    "content_hash": of_exposure(
        "uint64", "", "First 64 bits of BLAKE2b over the row's stored content", "meta.checksum"
    ),
}

EXPOSURES = Schema(
    name="exposures",
    version=1,
    row="exposure",
    variables={
        **METADATA,
        "snr": Variable(("exposure", "arm"), "float32", "", "Signal-to-noise ratio of the arm, from its header"),
        "exptime": Variable(("exposure", "arm"), "float32", "s", "Exposure time of the arm"),
        "source_file": of_exposure("str", "", "FITS file, relative to the folder that was ingested"),
        **_KEPT_PER_ROW,
        "flux": Variable(("exposure", "arm", "pixel"), "float32", "adu", "Counts, not flux-calibrated, as stored"),
        "ivar": Variable(("exposure", "arm", "pixel"), "float32", "adu-2", "Inverse variance of the flux, as stored"),
        "loglam": Variable(("exposure", "arm", "pixel"), "float32", "", "log10 of vacuum wavelength in Angstrom"),
        "mask": Variable(("exposure", "arm", "pixel"), "uint8", "", "Bits of the pixel mask; above 0 is bad"),
    },
    sizes={"arm": len(ARM_NAMES), "pixel": NATIVE_PIXELS},
    coords={"arm": ARM_NAMES},
)
"""One row per (obsid, lmjm), both arms on native pixels, values verbatim; an absent arm is NaN with S/N NaN."""

_STAR = {
    "teff": ("K", "Effective temperature"),
    "logg": ("", "log10 of surface gravity in cm s-2"),
    "feh": ("", "[Fe/H]"),
    "alpha": ("", "[alpha/Fe]"),
    "log_age": ("", "log10 of age in years"),
    "radius": ("solRad", "Radius"),
    "luminosity": ("solLum", "Luminosity"),
    "mass": ("solMass", "Initial mass"),
    "eep": ("", "Equivalent evolutionary point"),
    "vsini": ("km s-1", "Projected rotational velocity"),
    "velocity": ("km s-1", "Radial velocity"),
}


def _per_arm(name: str, dims: tuple[str, ...], dtype: str, long_name: str, units: str = "") -> dict[str, Variable]:
    """A variable of each arm; pixels are a dimension of the arm's own."""
    return {
        f"{name}_{arm}": Variable(
            tuple(f"pixel_{arm}" if dim == "pixel" else dim for dim in dims), dtype, units, f"{long_name}, {colour} arm"
        )
        for arm, colour in COLOURS.items()
    }


PAIRS = Schema(
    name="pairs",
    version=4,
    row="pair",
    variables={
        "draw": Variable(("pair",), "int64", "", "Serial number of the pair's draw, within its population"),
        "population": Variable(("pair",), "int8", "", "0 Table 1, 1 cool giant, 2 blend, 3 field"),
        "split": Variable(("pair",), "int8", "", ", ".join(f"{code} {split}" for code, split in enumerate(SPLITS))),
        "label": Variable(("pair", "kind"), "int8", "", "1 where two stars are to be seen, 0 where one is"),
        "mass_ratio": Variable(("pair",), "float32", "", "q = m2 / m1"),
        "luminosity_ratio": Variable(("pair",), "float32", "", "Luminosity of the secondary over the primary's"),
        "dilution": Variable(("pair",), "float32", "", "Square of the primary's distance over the secondary's"),
        **_per_arm("flux_ratio", ("pair",), "float32", "Mean flux of the secondary over the primary's, as observed"),
        "separation": Variable(("pair",), "float32", "km s-1", "Velocity separation, v2 - v1"),
        **_per_arm("snr", ("pair",), "float32", "Signal-to-noise ratio per pixel"),
        "emission": Variable(("pair",), "float32", "", "Height of H-alpha emission over the continuum beside it"),
        "disturbed": Variable(
            ("pair",), "uint16", "", ", ".join(f"{1 << bit} {name}" for bit, name in enumerate(DISTURBANCES))
        ),
        **{
            f"{name}{star}": Variable(("pair",), "float32", units, f"{long_name}, {which}")
            for star, which in ((1, "primary"), (2, "secondary"))
            for name, (units, long_name) in _STAR.items()
        },
        **_per_arm("frame", ("pair", "kind"), "float32", "Measured velocity at which it is at rest, or NaN", "km s-1"),
        **_per_arm("n_defects", ("pair", "kind"), "int16", "Pixels with added defects"),
        **_per_arm("flux", ("pair", "kind", "pixel"), "float32", "Noisy flux over continuum"),
    },
    sizes={"kind": len(KINDS), "pixel_B": BLUE.n_pixels, "pixel_R": RED.n_pixels},
    coords={"kind": KINDS},
    chunk_rows=128,
    shard_rows=2048,
    bitshuffle=True,
)
"""Single-binary pairs: the training set. Split by pair, never by spectrum."""

DRAWS = Schema(
    name="draws",
    version=1,
    row="draw",
    variables={
        "number": Variable(("draw",), "int64", "", "Serial number within the population"),
        "population": Variable(("draw",), "int8", "", "0 Table 1, 1 cool giant, 2 blend, 3 field"),
        "fate": Variable(("draw",), "int16", "", "0 kept, else why not; see population.fate_label"),
        "redraws": Variable(("draw",), "int8", "", "How often conditioned parameters were drawn again"),
    },
    chunk_rows=65536,
    shard_rows=65536,
)
"""What became of each draw of a training set; the group ``draws`` of its store."""


def _probabilities(head: str, whose: str) -> dict[str, Variable]:
    """Percentiles of the binary probability by an arm, or by both, for each penalty."""
    dims, ucd = ("exposure", "percentile"), f"stat.probability;{BANDS[head]}"
    return {
        f"pb_pct_{head}_{penalty}": Variable(
            dims, "float32", "", f"Binary probability, penalty {penalty}, {whose}", ucd
        )
        for penalty in CATALOG_PENALTIES
    }


def _arm_results(arm: str, colour: str) -> dict[str, Variable]:
    """Columns 12-17 and 24-28 (blue), or 18-23 and 29-33 (red), of the paper's Table 4."""
    band = BANDS[arm]
    velocity = f"spect.dopplerVeloc.opt;{band}"
    return {
        f"rv_obs_{arm}": of_exposure("float32", "km s-1", f"Radial velocity measured from the {colour} arm", velocity),
        f"rv_obs_err_{arm}": of_exposure(
            "float32", "km s-1", f"Error of the measured velocity, {colour} arm", f"stat.error;{velocity}"
        ),
        f"rv_abs_{arm}": of_exposure("float32", "km s-1", f"Velocity on the Gaia scale, {colour} arm", velocity),
        f"rv_abs_err_{arm}": of_exposure(
            "float32",
            "km s-1",
            f"Total error of the velocity on the Gaia scale, {colour} arm",
            f"stat.error;{velocity}",
        ),
        f"rv_teff_{arm}": of_exposure(
            "float32",
            "K",
            f"Effective temperature of the best template, {colour} arm",
            f"phys.temperature.effective;{band}",
        ),
        f"ccfmax_{arm}": of_exposure(
            "float32", "", f"Maximum of the cross-correlation function, {colour} arm", f"stat.correlation;{band}"
        ),
        **_probabilities(arm, f"{colour} arm"),
        f"specflag_{arm}": of_exposure(
            "bool", "", f"True for a good spectrum (S/N > 5), {colour} arm", f"meta.code.qual;{band}"
        ),
        f"npixbad_{arm}": of_exposure(
            "int32", "", f"Masked or repaired pixels on the grid, {colour} arm", f"meta.number;instr.pixel;{band}"
        ),
    }


def _table4() -> dict[str, Variable]:
    """The 34 columns of the paper's Table 4, in its order."""
    of_arms: dict[str, Variable] = {}
    for arm, colour in COLOURS.items():
        of_arms |= _arm_results(arm, colour)
    columns = {
        **METADATA,
        "snr_B": of_exposure("float32", "", "Signal-to-noise ratio of the blue arm", "stat.snr;em.opt.V"),
        "snr_R": of_exposure("float32", "", "Signal-to-noise ratio of the red arm", "stat.snr;em.opt.R"),
        **{name: variable for name, variable in of_arms.items() if name.startswith(("rv_", "ccfmax"))},
    }
    columns |= {name: variable for name, variable in of_arms.items() if name not in columns}
    columns["bprp0"] = of_exposure("float32", "mag", "Intrinsic colour (G_BP - G_RP)_0", "phot.color;em.opt.B;em.opt.R")
    return columns


TABLE4 = _table4()
"""The paper's Table 4, column for column, in its order."""

_NOISE = {
    f"noise_{arm}": of_exposure(
        "float32", "", f"Measured over stated noise, median, {colour} arm", f"instr.det.noise;arith.ratio;{BANDS[arm]}"
    )
    for arm, colour in COLOURS.items()
}
_MISFIT = {
    f"misfit_{arm}": of_exposure(
        "float32", "", f"Misfit with one or two stars of the library, {colour} arm", f"stat.fit.residual;{BANDS[arm]}"
    )
    for arm, colour in COLOURS.items()
}
_QUALITY = {
    f"quality_{arm}": of_exposure(
        "uint16", "", f"Quality bits of the {arm} arm; see schema.Quality", f"meta.code.qual;{BANDS[arm]}", Quality
    )
    for arm in ARM_NAMES
}

_JOINT = _probabilities(JOINT, "both arms together")

RESULTS = Schema(
    name="results",
    version=3,
    row="exposure",
    variables={**TABLE4, **_JOINT, **_NOISE, **_MISFIT, **_QUALITY, **_KEPT_PER_ROW},
    oldest=1,
    since={**dict.fromkeys(_NOISE, 2), **dict.fromkeys([*_JOINT, *_MISFIT], 3)},
    sizes={"percentile": len(PERCENTILES)},
    coords={"percentile": PERCENTILES},
    chunk_rows=4096,
)
"""What one task computes: Table 4, the verdict of both arms, the measures of noise and of misfit, quality bits, and the
content hash of the row that it was computed from."""

CATALOG = Schema(
    name="catalog",
    version=3,
    row="exposure",
    oldest=1,
    since=RESULTS.since,
    variables={
        **RESULTS.variables,
        "release": of_exposure("str", "", "Release from which the row comes", "meta.id;meta.dataset"),
        "run": of_exposure(
            "str", "", "Run that computed the row: hash of weights, parameters, numerics", "meta.version"
        ),
        "healpix29": of_exposure(
            "int64", "", f"HEALPix index of the position, order {HEALPIX_ORDER}, nested", "pos.healpix"
        ),
    },
    sizes=RESULTS.sizes,
    coords=RESULTS.coords,
    chunk_rows=65536,
    shard_rows=65536,
)
"""The published catalog: the newest row per (obsid, lmjm), sorted by HEALPix index, then obsid and lmjm."""


class ZeroPointReason(IntEnum):
    """Where the zero point of a unit (spectrograph, exposure, arm) comes from, or why there is none."""

    REFERENCE = 0
    """From the unit's stars that have reference velocities."""
    TIED = 1
    """From repeated stars, which tie the unit to others that have a zero point from references."""
    OWN_SCALE = 2
    """From repeated stars, without references: the median zero point of the units that they tie together is 0."""
    NO_VELOCITIES = 10
    """None: no exposure of the unit has a velocity that can be used."""
    FEW_STARS = 11
    """None: too few stars have reference velocities, and too few are in other exposures, too."""
    UNTIED = 12
    """None: repeated stars tie the unit to others, but references are given and none of these has enough of them."""


_OF_UNIT = ("unit", "arm")

ZERO_POINTS = Schema(
    name="zero_points",
    version=1,
    row="unit",
    variables={
        "spid": Variable(("unit",), "int16", "", "Spectrograph identifier, 1 to 16"),
        "lmjm": Variable(("unit",), "int32", "min", "Local modified Julian minute of the start of the exposure"),
        "n_stars": Variable(_OF_UNIT, "int32", "", "Stars from which the zero point comes, or that are too few"),
        "zero_point": Variable(_OF_UNIT, "float32", "km s-1", "What is added to measured velocities"),
        "error": Variable(_OF_UNIT, "float32", "km s-1", "Error of the zero point"),
        "group": Variable(_OF_UNIT, "int32", "", "Units that repeated stars tie together have one number; -1: none"),
        "reason": Variable(_OF_UNIT, "uint8", "", "Where it comes from, or why there is none; schema.ZeroPointReason"),
    },
    sizes={"arm": len(ARM_NAMES)},
    coords={"arm": ARM_NAMES},
    chunk_rows=65536,
    shard_rows=65536,
)
"""Zero points of the velocities: a row for each exposure of a spectrograph, by rising time."""

_OF_TRACK = ("track",)
_ALONG_TRACK = ("track", "eep")

TRACKS = Schema(
    name="tracks",
    version=1,
    row="track",
    variables={
        "feh": Variable(_OF_TRACK, "float64", "", "Initial [Fe/H]"),
        "alpha": Variable(_OF_TRACK, "float64", "", "Initial [alpha/Fe]"),
        "mass": Variable(_OF_TRACK, "float64", "solMass", "Initial mass"),
        "helium": Variable(_OF_TRACK, "float64", "", "Initial mass fraction of helium, Y; NaN where not stated"),
        "metals": Variable(_OF_TRACK, "float64", "", "Initial mass fraction of metals, Z; NaN where not stated"),
        "rotation": Variable(_OF_TRACK, "float64", "", "Initial rotation, v/v_crit; NaN where not stated"),
        "n_eeps": Variable(_OF_TRACK, "int32", "", "Number of EEPs that the track has, from the first on"),
        "models": Variable(_OF_TRACK, "str", "", "Whose models, as their files say in their first lines"),
        "source_file": Variable(_OF_TRACK, "str", "", "File from which the track comes"),
        "log_age": Variable(_ALONG_TRACK, "float64", "", "log10 of age in years; NaN after the track's end"),
        "log_l": Variable(_ALONG_TRACK, "float32", "", "log10 of luminosity in solar luminosities"),
        "log_teff": Variable(_ALONG_TRACK, "float32", "", "log10 of effective temperature in K"),
        "star_mass": Variable(_ALONG_TRACK, "float32", "solMass", "Current mass"),
    },
    shard_rows=256,
)
"""Tracks by rising ([Fe/H], [alpha/Fe], mass). Each store has EEPs of its own, which
:meth:`twinlines.pipeline.datasets.Schema.labelled` names."""
