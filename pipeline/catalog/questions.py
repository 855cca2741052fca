"""Questions to a catalog: candidates, a cone, a source; methods of the accessor ``sb2`` of Datasets.

They know rows and columns, and no folder: what ``judge`` returns is asked in the same way as a published catalog.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import astropy.units as u
import cdshealpix
import numpy as np
import xarray as xr
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.catalog.export import Columns, ExportError, export
from twinlines.pipeline.schema import (
    CATALOG_PENALTIES,
    HEADS,
    HEALPIX_ORDER,
    JOINT,
    MAXIMUM_BAD_PIXELS,
    PERCENTILES,
    Quality,
)

MAXIMUM_COLOUR = 2.5
"""A candidate whose (G_BP - G_RP)_0 is known is bluer than this, mag (Zhang et al. 2022, section 4.5)."""

SOURCE_RADIUS = 3.0
"""Exposures within this angle are of one source, arcsec: about the fibre's diameter."""

JOINT_THRESHOLD = 0.5
"""Least median of the probability by both arms together, penalty 16, of a candidate."""

EXPECTED_FALSE, BOUNDED_FALSE = "star_expected_false", "star_bounded_false"
"""Columns of a calibrated catalog (:mod:`twinlines.pipeline.validation.trust`): the least false discovery rate, in the
mean over surveys, and the least bound of the false proportion of this one, of candidates that include the star."""

Rule = Literal["joint", "paper"]
"""Names of the candidates' rules."""


class _Standard(NamedTuple):
    """What a rule looks at, if nothing else is said."""

    heads: tuple[str, ...]
    percentile: int
    threshold: float


RULES: Mapping[str, _Standard] = {
    "joint": _Standard((JOINT,), 50, JOINT_THRESHOLD),
    "paper": _Standard(ARM_NAMES, 0, 0.5),
}
"""The candidates' rules."""

# Beyond these, cones look at every row's declination: cdshealpix misses cells of very wide ones (seen at 139 degrees)
# and about the poles (seen where a cone reaches beyond 88 degrees); below the last, it panics.
_WIDE = 5.0 * u.deg
_POLAR = 75.0  # deg
_NARROW = float(np.radians(0.1 / 3600.0))


class CatalogError(RuntimeError):
    """There is no catalog, or it cannot answer."""


@xr.register_dataset_accessor("sb2")
class SB2:
    """Questions to a catalog of binary probabilities."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._catalog = dataset

    def probability(self, head: str, *, penalty: int = 16, percentile: int = 50) -> xr.DataArray:
        """One percentile of the binary probability, shape (exposure,): of an arm, "B" or "R", or of both, "J".

        Raises
        ------
        CatalogError
            If the catalog keeps no such penalty or percentile.
        """
        if head not in HEADS:
            raise CatalogError(f"no arm is called {head!r}; the verdicts are {HEADS}, J of both arms together")
        if penalty not in CATALOG_PENALTIES:
            raise CatalogError(f"the catalog has no penalty {penalty}; it has {CATALOG_PENALTIES}")
        if percentile not in PERCENTILES:
            raise CatalogError(f"the catalog has no percentile {percentile}; it has {PERCENTILES}")
        name = f"pb_pct_{head}_{penalty}"
        self._require(name, "percentile")
        if percentile not in self._catalog["percentile"]:
            raise CatalogError(
                f"percentile {percentile} is not among those selected: {self._catalog['percentile'].values.tolist()}"
            )
        return self._catalog[name].sel(percentile=percentile, drop=True)

    def candidates(
        self,
        *,
        rule: Rule = "joint",
        penalty: int = 16,
        percentile: int | None = None,
        threshold: float | None = None,
        arms: Literal["both", "any"] = "both",
        unfamiliar: bool = False,
        fdr: float | None = None,
        in_the_mean: bool = False,
    ) -> xr.Dataset:
        """Exposures of SB2 candidates.

        Parameters
        ----------
        rule
            "joint": the probability by both arms together is above the threshold. "paper": that of each arm is (Zhang
            et al. 2022, section 4.5). By either, fewer than 100 pixels of each arm that counts are bad, and the colour,
            where it is known, is below 2.5 mag, which removes the coolest giants.
        penalty
            Penalty of the networks.
        percentile, threshold
            Which percentile of the probability is to be above what: 50 and :data:`JOINT_THRESHOLD` by the joint rule, 0
            and 0.5 by the paper's.
        arms
            Of the paper's rule: whether both arms must agree, or any is enough.
        unfamiliar
            Of the joint rule: whether exposures count of which an arm is unlike any star, or two, of the library (the
            bit ``UNFAMILIAR``), so that the verdict on them is a guess.
        fdr
            Of a calibrated catalog (:func:`twinlines.open_calibrated`), instead of all above: all exposures of as many
            stars as there can be if at most this part of the stars is single. It holds in this survey with the
            calibration's confidence, for whatever value of it, and however many are tried.
        in_the_mean
            Let that part hold in the mean over surveys alone: more stars, of which the false part is above ``fdr``
            about as often as below.

        Returns
        -------
        xr.Dataset
            The rows of the catalog that are candidates, loaded.
        """
        if fdr is not None:
            plain = (rule, penalty, percentile, threshold, arms, unfamiliar)
            if plain != ("joint", 16, None, None, "both", False):
                raise CatalogError("fdr goes by the calibration, which has its own rule; leave the other arguments out")
            return self._rows(np.flatnonzero(self.is_warranted(fdr, in_the_mean=in_the_mean)))
        chosen = self.is_candidate(
            rule=rule, penalty=penalty, percentile=percentile, threshold=threshold, arms=arms, unfamiliar=unfamiliar
        )
        return self._rows(np.flatnonzero(chosen))

    def is_warranted(self, fdr: float, *, in_the_mean: bool = False) -> NDArray[np.bool_]:
        """Whether each exposure is of a star of :meth:`candidates` at a false discovery rate, shape (exposure,).

        Raises
        ------
        CatalogError
            If the rows are not calibrated, ``fdr`` is no rate, or the nulls are too few for it: then no star is a
            candidate, whatever it shows.
        """
        if not 0.0 < fdr < 1.0:
            raise CatalogError(f"fdr is {fdr}; give a false discovery rate above 0 and below 1, such as 0.05")
        name = EXPECTED_FALSE if in_the_mean else BOUNDED_FALSE
        if name not in self._catalog.variables:
            raise CatalogError(
                "these rows are not calibrated, so that nobody knows what part of them is single; 'twinlines calibrate "
                "--survey S' calibrates the catalog of S, and twinlines.open_calibrated(S) opens it so"
            )
        least = self._catalog[name].values
        chosen = np.asarray(least <= fdr, np.bool_)
        if not chosen.any() and self._beyond_nulls():
            best = float(least.min())
            more = np.ceil(max(best / fdr, 2.0))
            raise CatalogError(
                f"too few nulls for a false discovery rate of {fdr:g}: stars score above all of them, but so few nulls "
                f"warrant {f'{best:.2g} at best' if best < 1.0 else 'no rate'}. Some {more:.0f} times as many would do "
                f"(twinlines calibrate --nulls); or ask for a higher rate{'' if in_the_mean else ', or in the mean'}"
            )
        return chosen

    def _beyond_nulls(self) -> bool:
        """Whether a star of a calibrated catalog scores above all nulls."""
        nulls = json.loads(self._catalog.attrs["calibration"])["summary"]["equal_nulls"]
        p_value = self._catalog["star_p_value"].values
        return bool((p_value <= (1.0 + 1e-9) / (1.0 + nulls)).any())

    def is_clean(self) -> NDArray[np.bool_]:
        """Whether each exposure is one that the joint rule lets be a candidate, whatever its verdict, (exposure,)."""
        self._require("bprp0", *(f"npixbad_{arm}" for arm in ARM_NAMES))
        bad = [self._catalog[f"npixbad_{arm}"].values >= MAXIMUM_BAD_PIXELS for arm in ARM_NAMES]
        cool = self._catalog["bprp0"].values >= MAXIMUM_COLOUR
        return np.asarray(~(np.any(bad, axis=0) | cool | self.is_unfamiliar()), np.bool_)

    def is_candidate(
        self,
        *,
        rule: Rule = "joint",
        penalty: int = 16,
        percentile: int | None = None,
        threshold: float | None = None,
        arms: Literal["both", "any"] = "both",
        unfamiliar: bool = False,
    ) -> NDArray[np.bool_]:
        """Whether each exposure is a candidate by the rule of :meth:`candidates`, shape (exposure,).

        Raises
        ------
        CatalogError
            If the catalog keeps no such penalty or percentile, ``threshold`` is no probability, or ``rule`` or ``arms``
            is none of the two.
        """
        if rule not in RULES:
            raise CatalogError(f"rule is {rule!r}; give 'joint' (both arms together) or 'paper' (each arm by itself)")
        if arms not in ("both", "any"):
            raise CatalogError(f"arms is {arms!r}; give 'both' (arms must agree) or 'any' (one is enough)")
        if rule == "joint" and arms == "any":
            raise CatalogError("the joint rule judges both arms together; arms='any' goes with rule='paper'")
        standard = RULES[rule]
        percentile = standard.percentile if percentile is None else percentile
        threshold = standard.threshold if threshold is None else threshold
        if not 0.0 <= threshold <= 1.0:
            raise CatalogError(f"the threshold is {threshold}; give a probability, 0 to 1")
        self._require("bprp0", *(f"npixbad_{arm}" for arm in ARM_NAMES))
        clean = {arm: self._catalog[f"npixbad_{arm}"].values < MAXIMUM_BAD_PIXELS for arm in ARM_NAMES}
        agreed: list[NDArray[np.bool_]] = []
        for head in standard.heads:
            probability = self.probability(head, penalty=penalty, percentile=percentile).values
            self._require_judged(head, penalty, probability)
            agreed.append(
                (probability > threshold) & np.all([clean[arm] for arm in ARM_NAMES if head in (arm, JOINT)], 0)
            )
        chosen = np.any(agreed, axis=0) if arms == "any" else np.all(agreed, axis=0)
        colour = self._catalog["bprp0"].values
        chosen &= ~(colour >= MAXIMUM_COLOUR)  # NaN, an unknown colour, passes
        if rule == "joint" and not unfamiliar:
            chosen &= ~self.is_unfamiliar()
        return np.asarray(chosen, np.bool_)

    def is_unfamiliar(self) -> NDArray[np.bool_]:
        """Whether an arm of each exposure is unlike any star, or two, of the library, shape (exposure,)."""
        self._require(*(f"quality_{arm}" for arm in ARM_NAMES))
        bits = [self._catalog[f"quality_{arm}"].values for arm in ARM_NAMES]
        return np.asarray(np.any([(mine & Quality.UNFAMILIAR) > 0 for mine in bits], axis=0), np.bool_)

    def _require_judged(self, head: str, penalty: int, probability: NDArray[np.floating[Any]]) -> None:
        """Refuse a verdict that the ensemble did not give: nothing is a candidate by values that are not there."""
        if not len(probability) or np.isfinite(probability).any():
            return
        judged = [other for other in CATALOG_PENALTIES if self.has(head, other)]
        if judged:
            raise CatalogError(
                f"the ensemble that made these rows has no penalty {penalty} in arm {head}: all its probabilities are "
                f"NaN; it has {', '.join(map(str, judged))}"
            )
        if head == JOINT and all(self.has(arm, penalty) for arm in ARM_NAMES):
            raise CatalogError(
                "these rows have no verdict of both arms together: they are of an ensemble that judged each arm by "
                "itself, or no exposure has both arms; run the release again, or ask by rule='paper'"
            )

    def has(self, head: str, penalty: int) -> bool:
        """Whether any row has a verdict of an arm, "B" or "R", or of both, "J", at a penalty."""
        name = f"pb_pct_{head}_{penalty}"
        return name in self._catalog and bool(np.isfinite(self._catalog[name].values).any())

    def cone(self, ra: u.Quantity | float, dec: u.Quantity | float, radius: u.Quantity | float) -> xr.Dataset:
        """Exposures within ``radius`` of a position, nearest first.

        Parameters
        ----------
        ra, dec
            Centre (J2000); bare numbers are in degrees.
        radius
            An angle; a bare number is in arcseconds.

        Raises
        ------
        CatalogError
            If that is no position, or no angle.
        """
        try:
            ra, dec = (u.Quantity(angle, u.deg).to_value(u.deg) for angle in (ra, dec))
            angle = u.Quantity(radius, u.arcsec)
        except (TypeError, ValueError) as error:
            raise CatalogError(f"ra {ra}, dec {dec}, radius {radius} are no angles: {error}") from error
        if not (0.0 <= float(ra) <= 360.0 and -90.0 <= float(dec) <= 90.0):
            raise CatalogError(f"ra {ra}, dec {dec} is no position in degrees (0 to 360, -90 to 90)")
        if not 0.0 < angle.to_value(u.deg) <= 180.0:
            raise CatalogError(f"a cone's radius lies between 0 and 180 degrees (asked: {angle})")
        self._require("ra", "dec")
        rows = self._near(float(ra), float(dec), angle)
        positions = SkyCoord(self._catalog["ra"].values[rows], self._catalog["dec"].values[rows], unit="deg")
        distance = positions.separation(SkyCoord(ra, dec, unit="deg")).to_value(u.deg)
        inside = distance <= angle.to_value(u.deg)
        rows, distance = rows[inside], distance[inside]
        return self._rows(rows[np.lexsort((rows, distance))])

    def source(self, obsid: int | str) -> xr.Dataset:
        """All exposures, of any file, of the star that was observed as ``obsid``, in time order.

        Raises
        ------
        CatalogError
            If the catalog has no such obsid, or ``obsid`` is no whole number.
        """
        try:
            number = int(obsid)
        except (TypeError, ValueError):
            number = -1
        if number < 0 or (not isinstance(obsid, str) and number != obsid):
            raise CatalogError(f"obsid is {obsid!r}; give a whole number, such as 747012076")
        self._require("obsid", "ra", "dec", "bjdmid")
        rows = np.flatnonzero(self._catalog["obsid"].values == number)
        if len(rows) == 0:
            raise CatalogError(f"the catalog has no exposure of obsid {obsid}")
        ra, dec = float(self._catalog["ra"][rows[0]]), float(self._catalog["dec"][rows[0]])
        exposures = self.cone(ra, dec, SOURCE_RADIUS * u.arcsec)
        return exposures.isel(exposure=np.argsort(exposures["bjdmid"].values, kind="stable"))

    def export(
        self,
        path: str | Path,
        *,
        columns: Columns = "table4",
        format: str | None = None,  # noqa: A002 (the word for it)
        overwrite: bool = False,
    ) -> int:
        """Write the rows as a table and return their number: the 34 columns of Table 4, all, or those that are named.

        FITS, VOTable, Parquet, HATS, text of the AAS or the CDS, or the footprint as a MOC, as the file's name ends, or
        as asked for; see :func:`twinlines.pipeline.catalog.export.export`.

        Raises
        ------
        CatalogError
            If the table cannot be written there.
        """
        self._require()
        try:
            return export(self._catalog, Path(path), columns=columns, format=format, overwrite=overwrite)
        except ExportError as error:
            raise CatalogError(str(error)) from error

    def _require(self, *names: str) -> None:
        """Refuse what is not rows of a catalog."""
        if "exposure" not in self._catalog.dims:
            raise CatalogError(
                "there is no dimension 'exposure'; select a row by a list, as in isel(exposure=[0]), and it stays"
            )
        missing = [name for name in names if name not in self._catalog.variables]
        if missing:
            raise CatalogError(
                f"this Dataset lacks {', '.join(missing)}; ask a catalog (open) or a verdict (judge), not what either "
                "is made of"
            )

    def _near(self, ra: float, dec: float, angle: u.Quantity) -> NDArray[np.int64]:
        """Rows that may lie in a cone: all within it, and some beside; whatever the order of rows."""
        if "healpix29" not in self._catalog or angle > _WIDE or abs(dec) + angle.to_value(u.deg) > _POLAR:
            declination = self._catalog["dec"].values
            # Missing and impossible declinations are near nothing.
            return np.flatnonzero(
                (np.abs(declination - dec) <= angle.to_value(u.deg) + 1e-9) & (np.abs(declination) <= 90)
            )
        index = self._catalog["healpix29"].values
        begins, ends = _covering_ranges(ra, dec, max(angle.to_value(u.rad), _NARROW))
        if np.all(index[1:] >= index[:-1]):  # as published
            first, last = np.searchsorted(index, begins), np.searchsorted(index, ends)
            none = np.empty(0, dtype=np.int64)
            return np.concatenate([none, *(np.arange(a, b) for a, b in zip(first, last, strict=True))])
        place = np.searchsorted(begins, index, side="right") - 1
        return np.flatnonzero((place >= 0) & (index < ends[place]))

    def _rows(self, rows: NDArray[np.int64]) -> xr.Dataset:
        return self._catalog.isel(exposure=rows).load()


def _covering_ranges(ra: float, dec: float, radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranges of the HEALPix index (order 29, nested), ascending, that cover a cone; ``radius`` in radians."""
    cells, orders, _ = cdshealpix.nested.cone_search(
        lon=ra * u.deg, lat=dec * u.deg, radius=radius * u.rad, depth=_covering_order(radius), flat=False
    )
    scale = 2 * (HEALPIX_ORDER - orders.astype(np.int64))
    begins, ends = cells.astype(np.int64) << scale, (cells.astype(np.int64) + 1) << scale
    order = np.argsort(begins)
    return begins[order], ends[order]


def _covering_order(radius: float) -> int:
    """HEALPix order whose cells are somewhat smaller than ``radius`` (radians), so that few of them cover the cone."""
    side = np.sqrt(np.pi / 3.0)  # of a base cell, radians
    return int(np.clip(np.ceil(np.log2(side / radius)) + 2, 0, HEALPIX_ORDER))
