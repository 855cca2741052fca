"""The colour-magnitude diagram of a catalog's stars: where its candidates lie, and how far above single stars.

Two equal stars are 0.75 mag brighter than one, at its colour: binaries of high mass ratio form a sequence above the
main sequence. Absolute magnitudes by the paper's equation 12, G + 5 log10(parallax / 100 mas) - A_G.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from astropy.table import Table
from numpy.typing import NDArray

from twinlines.models.evaluation import Rate, rate
from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.grouping import NO_STAR, RADIUS
from twinlines.pipeline.catalog.questions import MAXIMUM_COLOUR
from twinlines.pipeline.schema import JOINT
from twinlines.pipeline.usertables.files import UserTableError
from twinlines.pipeline.usertables.matching import By
from twinlines.pipeline.usertables.stars import StarTable, read_stars
from twinlines.pipeline.validation.colours import extinction
from twinlines.pipeline.validation.colours.extinction import Extinction, Source
from twinlines.pipeline.validation.colours.sequence import EQUAL, is_dwarf, main_sequence
from twinlines.pipeline.validation.foreign.match import match
from twinlines.pipeline.validation.observed import Asked, Observed, ValidationError, observe, probabilities

Array = NDArray[np.float64]

HEIGHTS = (-0.2, 0.2, 0.4, 0.6, 0.9)
"""Ends of bins of the height above the ridge of single stars, mag."""

COLOUR_STEP, MAGNITUDE_STEP = 0.2, 0.5
"""Cells of the diagram in which fractions of candidates are counted, mag."""

_WANTED = ("parallax", "parallax_error", "g", "bp", "rp", "bp_rp", "ruwe", "ebv", "a_g", "e_bp_rp")
_WITHOUT = {
    "parallax": "no star has an absolute magnitude",
    "g": "no star has an absolute magnitude",
    "parallax_error": "parallaxes count as sure",
    "ruwe": "astrometry counts as good",
}


@dataclass(frozen=True)
class NearbyConfig:
    """Which stars are in the diagram: the paper's section 4.3."""

    parallax: float = 3.0
    """Least parallax, mas."""
    parallax_over_error: float = 5.0
    """Least parallax over its error."""
    ruwe: float = 1.4
    """Largest RUWE."""
    snr: float = 10.0
    """Least S/N of a judged exposure, in either arm."""


@dataclass(frozen=True)
class Diagram:
    """Stars with photometry; arrays of shape (star,), over the catalog's stars, NaN where something is not known."""

    table: StarTable
    """The photometry."""
    notes: tuple[str, ...]
    """What a user should know."""
    config: NearbyConfig
    """Which stars are shown."""
    observed: Observed
    """The catalog's stars; candidates whatever their colour."""
    extinction: Extinction
    """Extinction of the stars."""
    colour: Array
    """(G_BP - G_RP)_0, mag."""
    magnitude: Array
    """Absolute magnitude in G, mag."""
    distance: Array
    """1000 / parallax, pc."""
    shown: NDArray[np.bool_]
    """Whether a star is in the diagram."""
    candidate: NDArray[np.bool_]
    """Whether an exposure of it is a candidate."""
    double: Mapping[str, NDArray[np.bool_]]
    """Whether an exposure of it is double by a head: p0 above 0.5 in an arm, "both" in both, the rule's in J."""
    exposures: Mapping[str, tuple[int, int]]
    """Exposures of the stars shown, by head: judged, and with p0 above 0.5."""
    counts: Mapping[str, int]
    """Stars by what they lack."""
    ridge: tuple[Array, Array]
    """Colours, and absolute magnitudes there of the stars that are no candidates."""

    @property
    def height(self) -> Array:
        """(star,) how much brighter than the ridge, mag; NaN beyond its ends, and for giants."""
        colours, magnitudes = self.ridge
        if not len(colours):
            return np.full(len(self.colour), np.nan)
        at = np.interp(self.colour, colours, magnitudes, left=np.nan, right=np.nan)
        return np.where(is_dwarf(self.colour, self.magnitude) & self.shown, at - self.magnitude, np.nan)

    @property
    def eliminated(self) -> NDArray[np.bool_]:
        """(star,) candidates that the colour's cut, 2.5 mag, puts aside: the coolest giants."""
        return np.asarray(self.candidate & (self.colour >= MAXIMUM_COLOUR), np.bool_)

    def fractions(self) -> list[tuple[float, float, Rate]]:
        """Fraction of candidates by height above the ridge: from, to, and the rate."""
        ends = (-np.inf, *HEIGHTS, np.inf)
        height = self.height
        result = []
        for low, high in pairwise(ends):
            mine = (height >= low) & (height < high)
            result.append((low, high, rate(int((mine & self.candidate).sum()), int(mine.sum()))))
        return result

    def cells(self) -> Table:
        """Fraction of candidates over the diagram: a row for each cell that has a star."""
        mine = np.flatnonzero(self.shown)
        colour, magnitude = (
            np.floor(values[mine] / step).astype(np.int64)
            for values, step in ((self.colour, COLOUR_STEP), (self.magnitude, MAGNITUDE_STEP))
        )
        cells, inverse = np.unique(np.stack([colour, magnitude], axis=1), axis=0, return_inverse=True)
        every = np.bincount(inverse.ravel(), minlength=len(cells))
        double = np.bincount(inverse.ravel(), weights=self.candidate[mine], minlength=len(cells)).astype(np.int64)
        rates = [rate(int(count), int(total)) for count, total in zip(double, every, strict=True)]
        result = Table(
            {
                "colour_from": cells[:, 0] * COLOUR_STEP,
                "colour_below": (cells[:, 0] + 1) * COLOUR_STEP,
                "magnitude_from": cells[:, 1] * MAGNITUDE_STEP,
                "magnitude_below": (cells[:, 1] + 1) * MAGNITUDE_STEP,
                "stars": every,
                "candidates": double,
                "fraction": [each.value for each in rates],
                "fraction_low": [each.low for each in rates],
                "fraction_high": [each.high for each in rates],
            }
        )
        for name in result.colnames[:4]:
            result[name].unit = "mag"
        return result

    def stars(self) -> Table:
        """A row for each star with a colour."""
        mine = np.flatnonzero(np.isfinite(self.colour))
        first = self.observed.first_rows()[mine]
        result = Table(
            {
                "obsid": self.observed.obsid[first],
                "ra": self.observed.ra[first],
                "dec": self.observed.dec[first],
                "bprp0": self.colour[mine],
                "mg0": self.magnitude[mine],
                "distance": self.distance[mine],
                "a_g": self.extinction.a_g[mine],
                "e_bp_rp": self.extinction.e_bp_rp[mine],
                "shown": self.shown[mine],
                "height": self.height[mine],
                "exposures_judged": self.observed.count(self.observed.judged)[mine],
                "exposures_double": self.observed.count(self.observed.candidate)[mine],
                "candidate": self.candidate[mine],
                "eliminated": self.eliminated[mine],
            }
        )
        units = {"ra": "deg", "dec": "deg", "distance": "pc"}
        units |= dict.fromkeys(("bprp0", "mg0", "a_g", "e_bp_rp", "height"), "mag")
        for name, unit in units.items():
            result[name].unit = unit
        return result

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        height = self.height
        known = np.isfinite(height)
        return {
            **self.table.to_json(),
            "notes": list(self.notes),
            "rule": self.observed.asked.to_json(),
            "config": vars(self.config),
            "extinction": {"source": self.extinction.source, "words": self.extinction.words},
            "stars": dict(self.counts),
            "exposures": {head: {"judged": a, "p0_above_half": b} for head, (a, b) in self.exposures.items()},
            "eliminated_by_colour": int(self.eliminated.sum()),
            "binary_sequence_mag": EQUAL,
            "median_height": {
                "candidates": _median(height[known & self.candidate]),
                "others": _median(height[known & ~self.candidate]),
            },
            "fraction_by_height": [{"from": low, "below": high, **vars(each)} for low, high, each in self.fractions()],
        }


def _median(values: Array) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def read_photometry(path: Any, asked: Mapping[str, str] | None = None) -> StarTable:
    """Read Gaia's photometry of stars: positions or obsids, colours, and what else there is.

    Raises
    ------
    UserTableError
        If the table cannot be used, or has no colour.
    """
    table, _ = read_stars(path, wanted=_WANTED, asked=asked)
    if "bp_rp" not in table.values and not {"bp", "rp"} <= set(table.values):
        raise UserTableError(
            f"{table.path}: it has no colour (bp_rp, or phot_bp_mean_mag and phot_rp_mean_mag); the diagram and bprp0 "
            "need BP - RP; name the columns"
        )
    return table


def diagram(
    catalog: xr.Dataset,
    table: StarTable,
    asked: Asked | None = None,
    config: NearbyConfig | None = None,
    *,
    source: Source | None = None,
    scale: float | None = None,
    radius: float = RADIUS,
    by: By | None = None,
) -> Diagram:
    """Put a catalog's stars into the colour-magnitude diagram.

    Parameters
    ----------
    catalog
        The catalog.
    table
        Photometry, from :func:`read_photometry`.
    asked
        The rule of candidates; colours play no part in it here.
    config
        Which stars are shown.
    source
        Where extinction comes from; by default columns, if the table has any, else there is none.
    scale
        E(B - V) over the unit of a dust map, if not the usual one.
    radius
        Largest distance of a match, arcsec.
    by
        How stars are matched.

    Raises
    ------
    UserTableError
        If no star of the catalog is in the table.
    ValidationError
        If the catalog has no verdict, or there is no such extinction.
    """
    asked, config = asked or Asked(), config or NearbyConfig()
    notes = list(table.notes)
    uncut = catalog.assign(bprp0=catalog["bprp0"] * np.nan)  # what the colour puts aside is to be seen
    observed = observe(uncut, asked, radius)
    mine = match(table, observed, radius, by)
    row_of = np.full(observed.stars, -1, np.int64)
    rows = np.flatnonzero(mine.star != NO_STAR)
    rows = rows[np.argsort(-np.nan_to_num(mine.distance[rows]), kind="stable")]  # the nearest last: it counts
    row_of[mine.star[rows]] = rows
    again = len(rows) - int((row_of >= 0).sum())
    if again:
        notes.append(f"{again} rows are of stars of which another row is nearer: left out")
    there = row_of >= 0

    def of_star(values: Array) -> Array:
        return np.where(there, values[np.where(there, row_of, 0)], np.nan)

    seen = of_star(table.values["bp_rp"] if "bp_rp" in table.values else table.get("bp") - table.get("rp"))
    parallax, error, ruwe, g = (of_star(table.get(what)) for what in ("parallax", "parallax_error", "ruwe", "g"))
    positive = parallax > 0.0  # NaN compares false
    distance = np.where(positive, 1000.0 / np.where(positive, parallax, 1.0), np.nan)
    source = source or ("columns" if extinction.has_columns(table) else "none")
    dust = _extinction(source, table, row_of, observed, distance, scale)
    colour = seen - dust.e_bp_rp
    magnitude = g + 5.0 * np.log10(np.where(positive, parallax, np.nan) / 100.0) - dust.a_g
    notes += [f"it has no {what}: {so}" for what, so in _WITHOUT.items() if what not in table.values]
    bright = observed.judged & np.any([catalog[f"snr_{arm}"].values > config.snr for arm in ARM_NAMES], axis=0)
    cuts = {
        "with photometry": there,
        "with a colour": np.isfinite(seen),
        "with known extinction": np.isfinite(colour),
        "with a parallax above 0": positive,
        "near": parallax > config.parallax,
        "with a sure parallax": (parallax > config.parallax_over_error * error)
        | ("parallax_error" not in table.values),
        "with good astrometry": (ruwe < config.ruwe) | ("ruwe" not in table.values),
        "with an exposure of enough S/N": observed.count(bright) > 0,
        "with an absolute magnitude": np.isfinite(magnitude),
    }
    counts = {"in the catalog": observed.stars}
    shown = np.ones(observed.stars, np.bool_)
    for words, cut in cuts.items():
        shown &= cut
        counts[words] = int(shown.sum())
    negative = int((parallax <= 0.0).sum())
    if negative:
        notes.append(
            f"stars with parallaxes of 0 or less, which have no distance and are not in the diagram: {negative}"
        )
    unknown = int((there & ~np.isfinite(parallax)).sum())
    if unknown and "parallax" in table.values:
        notes.append(f"stars without a parallax, which are not in the diagram: {unknown}")
    candidate = observed.count(observed.candidate) > 0
    counts["candidates"] = int((candidate & shown).sum())
    double, exposures = _double(catalog, observed, shown, bright)
    return Diagram(
        table=table,
        notes=tuple(notes),
        config=config,
        observed=observed,
        extinction=dust,
        colour=colour,
        magnitude=magnitude,
        distance=distance,
        shown=shown,
        candidate=candidate,
        double=double,
        exposures=exposures,
        counts=counts,
        ridge=main_sequence(colour[shown & ~candidate], magnitude[shown & ~candidate]),
    )


def _extinction(
    source: Source,
    table: StarTable,
    row_of: NDArray[np.int64],
    observed: Observed,
    distance: Array,
    scale: float | None,
) -> Extinction:
    if scale is not None and source not in extinction.MAPS:
        raise ValidationError(f"a scale of the dust map is given, but extinction comes from {source}; leave it out")
    if source == "none":
        return extinction.nothing(observed.stars)
    if source == "columns":
        there = row_of >= 0
        dust = extinction.from_columns(table, np.where(there, row_of, 0))
        a_g, e_bp_rp = (np.where(there, values, np.nan) for values in (dust.a_g, dust.e_bp_rp))
        return Extinction(dust.source, dust.words, a_g, e_bp_rp)
    first = observed.first_rows()
    return extinction.from_map(source, observed.ra[first], observed.dec[first], distance, scale)


def _double(
    catalog: xr.Dataset, observed: Observed, shown: NDArray[np.bool_], bright: NDArray[np.bool_]
) -> tuple[dict[str, NDArray[np.bool_]], dict[str, tuple[int, int]]]:
    """Stars of which an exposure is double, and exposures of the stars shown, by head."""
    p0 = probabilities(catalog, observed.asked.penalty, 0)
    above = {head: values > 0.5 for head, values in p0.items()}
    judged = {head: np.isfinite(values) for head, values in p0.items()}
    if all(arm in p0 for arm in ARM_NAMES):
        above["both"] = np.all([above[arm] for arm in ARM_NAMES], axis=0)
        judged["both"] = np.all([judged[arm] for arm in ARM_NAMES], axis=0)
    of_shown = (observed.star != NO_STAR) & shown[np.where(observed.star != NO_STAR, observed.star, 0)] & bright
    exposures = {
        head: (int((of_shown & judged[head]).sum()), int((of_shown & values).sum())) for head, values in above.items()
    }
    double = {head: observed.count(values & bright) > 0 for head, values in above.items()}
    if JOINT in double and observed.asked.rule == "joint":
        double[JOINT] = observed.count(observed.candidate & bright) > 0
    return double, exposures
