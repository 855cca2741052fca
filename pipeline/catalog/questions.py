"""Questions to a catalog: candidates, a condition, a cone, a source; methods of the accessor ``sb2`` of Datasets.

They know rows and columns, and no folder: what ``judge`` returns is asked in the same way as a published catalog. Of
one that was opened from a survey, the index beside it answers, and answers read columns when these are looked at.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import astropy.units as u
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.catalog.blockwise import blockwise
from twinlines.pipeline.catalog.conditions import holds
from twinlines.pipeline.catalog.cones import rows_in_cone
from twinlines.pipeline.catalog.crossmatch import SkyMatch, Table, crossmatch, positions
from twinlines.pipeline.catalog.errors import CatalogError as CatalogError
from twinlines.pipeline.catalog.export import Columns, ExportError, export
from twinlines.pipeline.catalog.published import distrust, published
from twinlines.pipeline.catalog.rules import JOINT_THRESHOLD as JOINT_THRESHOLD
from twinlines.pipeline.catalog.rules import MAXIMUM_COLOUR as MAXIMUM_COLOUR
from twinlines.pipeline.catalog.rules import RULES as RULES
from twinlines.pipeline.catalog.rules import UNFAMILIAR_COLUMNS, asked, unfamiliar_rows
from twinlines.pipeline.catalog.rules import Rule as Rule
from twinlines.pipeline.schema import CATALOG_PENALTIES, HEADS, JOINT, MAXIMUM_BAD_PIXELS, PERCENTILES
from twinlines.pipeline.survey.catalog_index import CatalogIndex, CatalogIndexError
from twinlines.pipeline.usertables.positions import Unit

SOURCE_RADIUS = 3.0
"""Exposures within this angle are of one source, arcsec: about the fibre's diameter."""

EXPECTED_FALSE, BOUNDED_FALSE = "star_expected_false", "star_bounded_false"
"""Columns of a calibrated catalog (:mod:`twinlines.pipeline.validation.trust`): the least false discovery rate, in the
mean over surveys, and the least bound of the false proportion of this one, of candidates that include the star."""


@xr.register_dataset_accessor("sb2")
class SB2:
    """Questions to a catalog of binary probabilities."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._catalog = dataset
        self._templates: dict[int, xr.Dataset] = {}

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
            Which percentile of the probability is to be above what: 50 and 0.5 by the joint rule, 0 and 0.5 by the
            paper's (:data:`twinlines.pipeline.catalog.rules.RULES`).
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
            The rows of the catalog that are candidates. Of an opened catalog, columns are read when they are looked
            at; ``.load()`` reads all.
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
        percentiles = tuple(self._catalog["percentile"].values.tolist()) if "percentile" in self._catalog else ()
        question = asked(rule, penalty, percentile, threshold, arms, unfamiliar, percentiles)
        for head in question.heads:  # refuses what the catalog does not keep
            self.probability(head, penalty=penalty, percentile=question.percentile)
        self._require(*question.columns)
        bits = blockwise(question.judge, self._catalog, question.columns, np.uint8)
        for number, head in enumerate(question.heads):
            self._require_judged(head, penalty, (bits & (2 << number)) > 0)
        return np.asarray((bits & 1) > 0, np.bool_)

    def is_unfamiliar(self) -> NDArray[np.bool_]:
        """Whether an arm of each exposure is unlike any star, or two, of the library, shape (exposure,)."""
        self._require(*UNFAMILIAR_COLUMNS)
        return blockwise(unfamiliar_rows, self._catalog, UNFAMILIAR_COLUMNS, np.bool_)

    def _require_judged(self, head: str, penalty: int, judged_rows: NDArray[np.bool_]) -> None:
        """Refuse a verdict that the ensemble did not give: nothing is a candidate by values that are not there."""
        if not len(judged_rows) or judged_rows.any():
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
            ra, dec = (float(u.Quantity(angle, u.deg).to_value(u.deg)) for angle in (ra, dec))
            angle = float(u.Quantity(radius, u.arcsec).to_value(u.rad))
        except (TypeError, ValueError) as error:
            raise CatalogError(f"ra {ra}, dec {dec}, radius {radius} are no angles: {error}") from error
        if not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
            swapped = "; they look swapped" if 0.0 <= dec <= 360.0 and -90.0 <= ra <= 90.0 else ""
            raise CatalogError(f"ra {ra}, dec {dec} is no position in degrees (0 to 360, -90 to 90){swapped}")
        if not 0.0 < angle <= np.pi:
            raise CatalogError(f"a cone's radius lies between 0 and 180 degrees (asked: {radius}; arcsec, if bare)")
        self._require("ra", "dec")
        index = self._index("ra", "dec")
        if index is not None:
            try:
                return self._rows(index.near(ra, dec, angle).row)
            except (CatalogIndexError, OSError) as error:
                distrust(error)
        return self._rows(rows_in_cone(self._catalog, ra, dec, angle))

    def source(self, obsid: int | str) -> xr.Dataset:
        """All exposures, of any file, of the star that was observed as ``obsid``, in time order.

        Raises
        ------
        CatalogError
            If the catalog has no such obsid, it has no position, or ``obsid`` is no whole number.
        """
        try:
            number = int(obsid)
        except (TypeError, ValueError):
            number = -1
        if number < 0 or (not isinstance(obsid, str) and number != obsid):
            raise CatalogError(f"obsid is {obsid!r}; give a whole number, such as 747012076")
        self._require("obsid", "ra", "dec", "bjdmid")
        radius = float(np.radians(SOURCE_RADIUS / 3600.0))
        index = self._index("obsid", "ra", "dec", "bjdmid")
        if index is not None:
            try:
                rows = index.of_obsid(number)
                if len(rows):
                    near = index.near(*self._placed(obsid, *index.at(int(rows[0]))), radius)
                    return self._rows(near.row[np.argsort(near.bjdmid, kind="stable")])
            except (CatalogIndexError, OSError) as error:
                distrust(error)
        rows = np.flatnonzero(self._catalog["obsid"].values == number)
        if len(rows) == 0:
            raise CatalogError(f"the catalog has no exposure of obsid {obsid}")
        place = (float(self._catalog[name][rows[0]]) for name in ("ra", "dec"))
        exposures = self._rows(rows_in_cone(self._catalog, *self._placed(obsid, *place), radius))
        return exposures.isel(exposure=np.argsort(exposures["bjdmid"].values, kind="stable"))

    def where(self, condition: str) -> xr.Dataset:
        """Exposures for which a condition on columns holds, such as ``"pb_pct_J_16.p50 > 0.9 and snr_B > 20"``.

        Parameters
        ----------
        condition
            See :func:`twinlines.pipeline.catalog.expression.parse`; it is parsed, and never evaluated as code. One of
            several percentiles is chosen by its place, ``pb_pct_J_16[2]``, or by name, ``pb_pct_J_16.p50``; bits of
            flags have names, ``quality_B & UNFAMILIAR``. Comparisons with a missing value (NaN) do not hold.

        Raises
        ------
        ExpressionError
            A :class:`CatalogError`: if it names a column that is not there, or says anything that is no condition.
        """
        self._require()
        return self._rows(np.flatnonzero(holds(self._catalog, condition)))

    def crossmatch(
        self,
        table: Table,
        radius: u.Quantity | float = SOURCE_RADIUS,
        *,
        ra: str | None = None,
        dec: str | None = None,
        unit: Unit | None = None,
    ) -> SkyMatch:
        """Exposures within ``radius`` of each position of another table.

        Parameters
        ----------
        table
            A file (FITS, ECSV, CSV, VOTable, Parquet, machine-readable text), a table of astropy or pandas, or arrays
            by name.
        radius
            An angle, at most a degree; a bare number is in arcseconds.
        ra, dec
            Names of its columns of positions, where they are not the usual ones.
        unit
            "deg", "rad" or "hour" (of right ascension), where the columns do not say, or say what is not so.

        Raises
        ------
        CatalogError
            If the table has no positions, or none that could be, or the radius is no such angle.
        """
        try:
            angle = float(u.Quantity(radius, u.arcsec).to_value(u.arcsec))
        except (TypeError, ValueError) as error:
            raise CatalogError(f"the radius {radius} is no angle: {error}") from error
        self._require("ra", "dec")
        theirs = positions(table, ra=ra, dec=dec, unit=unit)
        return crossmatch(theirs, self._catalog["ra"].values, self._catalog["dec"].values, angle)

    def take(self, rows: NDArray[np.int64]) -> xr.Dataset:
        """Exposures by their row numbers, in that order; see :meth:`candidates` of how their columns are read."""
        return self._rows(np.asarray(rows, np.int64))

    @staticmethod
    def _placed(obsid: int | str, ra: float, dec: float) -> tuple[float, float]:
        if not (np.isfinite(ra) and abs(dec) <= 90.0):
            raise CatalogError(f"the exposures of obsid {obsid} have no position (ra {ra}, dec {dec})")
        return ra, dec

    def _index(self, *names: str) -> CatalogIndex | None:
        """The index beside the catalog, if these columns are as they were published."""
        known = published(self._catalog)
        return known.index if known is not None and known.has(self._catalog, *names) else None

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

    def _rows(self, rows: NDArray[np.int64]) -> xr.Dataset:
        known = published(self._catalog)
        if known is not None and known.has_any(self._catalog):
            return known.answer(self._catalog, rows, self._templates)
        return self._catalog.isel(exposure=rows).load()
