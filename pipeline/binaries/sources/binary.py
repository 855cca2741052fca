"""All that is known of one star with two sets of lines: exposures, velocities in order, mass ratio, orbits, spectra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.binaries.components.epochs import Epochs
from twinlines.pipeline.binaries.fits.store import FitsError, join, load_fits
from twinlines.pipeline.binaries.grouping import RADIUS, group
from twinlines.pipeline.binaries.orbits.prior import Ephemeris
from twinlines.pipeline.binaries.orbits.solution import Fitting, fit_orbit
from twinlines.pipeline.binaries.orbits.summary import Elements
from twinlines.pipeline.binaries.schema import ORBIT_SAMPLES, ORBITS, SOURCES
from twinlines.pipeline.binaries.sources import solutions
from twinlines.pipeline.binaries.sources.orbits import allowing
from twinlines.pipeline.binaries.sources.source import Sources, sources, velocities_of
from twinlines.pipeline.binaries.sources.survey import hashes_of, open_sources, scale_of
from twinlines.pipeline.binaries.zeropoints.pairs import comparable, on_one_scale
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.catalog.questions import CatalogError
from twinlines.pipeline.schema import CATALOG, EXPOSURES, METADATA, SchemaError
from twinlines.pipeline.survey.exposures import exposures_of

_AROUND = 60.0  # arcsec; exposures farther from an obsid's position are of no chain that is looked for


@dataclass(frozen=True, eq=False)
class Binary:
    """One star with two sets of lines."""

    table: xr.Dataset
    """Its row of :data:`.schema.SOURCES`, with its best orbit; (source: 1)."""
    exposures: xr.Dataset
    """All its exposures in the order of time: what was observed, the verdict if there is one, the columns of
    :data:`.schema.FITS`, and of :data:`.schema.ON_SCALE` if the catalog has zero points."""
    epochs: Epochs
    """Velocities, in the order of time, star 1 being the same in all; blends, of which ``resolved`` is false, too."""
    solutions: xr.Dataset
    """Its rows of :data:`.schema.ORBITS`, the likeliest first: none, if no orbit was asked for."""
    samples: xr.Dataset
    """Its rows of :data:`.schema.ORBIT_SAMPLES`; none, if they were not kept."""
    spectra: xr.Dataset | None = None
    """Rows of :data:`twinlines.pipeline.schema.EXPOSURES` for ``exposures``, in their order; None: not at hand."""

    @property
    def name(self) -> str:
        """What it is called: by its smallest obsid."""
        return f"obsid {int(self.table['obsid'][0])}"

    @property
    def period(self) -> float:
        """Period of the likeliest solution, days; NaN without one."""
        return float(self.solutions["period"][0]) if self.solutions.sizes["solution"] else float("nan")

    def elements(self, rows: slice | Sequence[int] = slice(None)) -> Elements:
        """Elements of solutions, (solution,)."""
        return _elements(self.solutions.isel(solution=rows))

    def sampled(self) -> Elements:
        """Elements of the posterior's samples, (sample,)."""
        return _elements(self.samples)

    def phase(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Phase of times by the best orbit, 0 to 1, counted from star 1's largest velocity on a circular orbit."""
        if not np.isfinite(self.period):
            return np.full(len(time), np.nan)
        best = self.elements([0])
        turns = (time - best.t_periastron[0]) / best.period[0] + best.arg_periastron[0] / 360.0
        return np.asarray(turns - np.floor(turns), np.float64)

    @property
    def scaled(self) -> bool:
        """Whether some of its velocities have zero points added."""
        return "rv1_abs" in self.exposures and bool(np.isfinite(self.exposures["rv1_abs"].values).any())

    def fit_errors(self) -> NDArray[np.float64]:
        """Errors of ``epochs``' velocities as the fits state them, km/s, (epoch, 2).

        Those of ``epochs`` are total: zero points, or the scatter of a night whose zero point is not known, and what
        keeps an exposure's velocity from being better than 0.3 km/s, are in them. A blend has twice that of its one
        velocity.
        """
        every = np.arange(self.exposures.sizes["exposure"])
        names = ("rv1", "rv2", "rv_single")
        velocity = {name: velocities_of(self.exposures, every, name)[0] for name in names}
        error = {name: self.exposures[f"{name}_err"].values.astype(np.float64) for name in names}
        errors = np.full(self.epochs.velocity.shape, np.nan)
        for place, (time, both, resolved) in enumerate(
            zip(self.epochs.time, self.epochs.velocity, self.epochs.resolved, strict=True)
        ):
            # Which exposure it is says the time; where exposures share one, or stars were exchanged, the velocities do.
            rows = np.flatnonzero(self.exposures["bjdmid"].values == time)
            ways = (("rv1", "rv2"), ("rv2", "rv1")) if resolved else (("rv_single", "rv_single"),)
            off = [
                (abs(velocity[way[0]][row] - both[0]) + abs(velocity[way[1]][row] - both[1]), row, way)
                for row in rows.tolist()
                for way in ways
            ]
            known = [each for each in off if np.isfinite(each[0])]
            if known:
                _, row, way = min(known)
                errors[place] = [error[name][row] for name in way]
        return errors

    def to_json(self) -> dict[str, Any]:
        """The star, its velocities and its solutions, for JSON; samples and spectra are not."""
        row = {str(name): values.values[0].item() for name, values in self.table.data_vars.items()}
        columns = {str(name): values.values.tolist() for name, values in self.solutions.data_vars.items()}
        total, own = np.sqrt(np.diagonal(self.epochs.covariance, axis1=1, axis2=2)), self.fit_errors()
        return {
            "star": row,
            "velocities": [
                {
                    "bjdmid": float(self.epochs.time[place]),
                    "phase": float(phase),
                    "resolved": bool(self.epochs.resolved[place]),
                    "rv_primary": float(self.epochs.velocity[place, 0]),
                    "rv_primary_error": float(total[place, 0]),
                    "rv_primary_fit_error": float(own[place, 0]),
                    "rv_secondary": float(self.epochs.velocity[place, 1]),
                    "rv_secondary_error": float(total[place, 1]),
                    "rv_secondary_fit_error": float(own[place, 1]),
                }
                for place, phase in enumerate(self.phase(self.epochs.time))
            ],
            "solutions": [
                {name: values[row] for name, values in columns.items()}
                for row in range(self.solutions.sizes["solution"])
            ],
        }


def open_binary(survey: str | Path, obsid: int, *, spectra: bool = True) -> Binary:
    """All that a survey knows of one star with two sets of lines.

    Parameters
    ----------
    survey
        Folder of the survey, of which stars were made (``twinlines binaries sources``).
    obsid
        Any obsid of the star.
    spectra
        Whether its spectra are read, too, which a figure needs: a second for a release of millions.

    Raises
    ------
    CatalogError
        If the catalog has no such obsid.
    FitsError
        If the survey has no stars yet, none of this star's exposures shows two sets of lines, resolved, or spectra are
        asked for and their release is gone.

    Examples
    --------
    >>> import twinlines as tw
    >>> binary = tw.open_binary("S", 747412076)  # doctest: +SKIP
    >>> tw.plot.binary(binary).savefig("binary.png")  # doctest: +SKIP
    """
    return SurveyBinaries.open(survey).binary(obsid, spectra=spectra)


@dataclass(frozen=True, eq=False)
class SurveyBinaries:
    """What a survey knows of its binaries, opened once for as many of them as are asked for."""

    survey: Path
    """Its folder."""
    catalog: xr.Dataset
    """Its current catalog, lazy."""
    fits: xr.Dataset
    """All two-star fits."""
    table: xr.Dataset
    """Rows of :data:`.schema.SOURCES`, lazy."""
    orbits: xr.Dataset | None
    """Rows of :data:`.schema.ORBITS`, lazy; None: there are none."""
    samples: xr.Dataset | None
    """Rows of :data:`.schema.ORBIT_SAMPLES`, lazy; None: there are none."""
    zero_points: xr.Dataset | None
    """Zero points with which the table was made; None: without."""

    @classmethod
    def open(cls, survey: str | Path) -> SurveyBinaries:
        """Open a survey's.

        Raises
        ------
        CatalogError
            If there is no catalog.
        FitsError
            If the survey has no fits, or no stars yet.
        ZeroPointError
            If the zero points with which stars were made are gone.
        """
        place = Path(survey)
        table = open_sources(place)
        orbits: xr.Dataset | None
        samples: xr.Dataset | None
        try:
            orbits, samples = solutions.open_orbits(place), solutions.open_samples(place)
        except FitsError:
            orbits = samples = None
        # Velocities are on the scale of the table and its orbits, though others may have been published since.
        scale = scale_of(place, table)
        return cls(place, catalogs.open(place), load_fits(place), table, orbits, samples, scale)

    def binary(self, obsid: int, *, spectra: bool = True) -> Binary:
        """All that is known of the star of an obsid; see :func:`open_binary`."""
        radius = float(self.table.attrs.get("radius", RADIUS))
        first = self.catalog.sb2.source(obsid)
        if not first.sizes["exposure"]:  # without a position: of no star
            raise CatalogError(f"obsid {obsid} has no position in the catalog; without one it is of no star")
        mine = first.isel(exposure=first["obsid"].values == int(obsid)).isel(exposure=0)
        near = self.catalog.sb2.cone(float(mine["ra"]), float(mine["dec"]), max(_AROUND, 4.0 * radius))
        star = group(near["ra"].values, near["dec"].values, radius=radius)
        rows = near.isel(exposure=np.flatnonzero(star == star[near["obsid"].values == int(obsid)][0]))
        rows = join(rows.isel(exposure=np.argsort(rows["bjdmid"].values, kind="stable")), self.fits)
        rows = on_one_scale(rows, self.zero_points)
        found = one_thread()(sources)(rows, radius=radius)
        if not found.epochs:
            raise FitsError(
                f"no exposure of the star of obsid {obsid} shows two sets of lines that are told apart; 'twinlines "
                "catalog source' lists its exposures"
            )
        here = np.flatnonzero(self.table["obsid"].values == int(found.table["obsid"][0]))
        if len(here):
            row = self.table.isel(source=here[:1]).load()
        else:  # the table is older than the fits: a warning said so
            row = found.table.assign(velocities_hash=("source", hashes_of(found)))
        told = self._solutions(int(row["obsid"][0]), int(row["velocities_hash"][0]))
        return _binary(found, rows, row, *told, self.survey if spectra else None)

    def _solutions(self, obsid: int, velocities: int) -> tuple[xr.Dataset, xr.Dataset]:
        """A star's rows of solutions and samples, if they are of its velocities."""
        orbits, samples = ORBITS.dataset({}, 0), ORBIT_SAMPLES.dataset({}, 0)
        if self.orbits is None or self.samples is None:
            return orbits, samples
        mine = (self.orbits["obsid"].values == obsid) & (self.orbits["velocities_hash"].values == np.uint64(velocities))
        if mine.any():
            orbits = self.orbits.isel(solution=np.flatnonzero(mine)).load()
            samples = self.samples.isel(sample=np.flatnonzero(self.samples["obsid"].values == obsid)).load()
        return orbits, samples


def solve_binary(
    spectra: xr.Dataset,
    fits: xr.Dataset | None = None,
    *,
    ephemeris: Ephemeris | None = None,
    fitting: Fitting | None = None,
) -> Binary:
    """Solve one star's exposures at hand: two velocities of each, which star is which, mass ratio, orbit.

    Parameters
    ----------
    spectra
        Rows of :data:`twinlines.pipeline.schema.EXPOSURES` of one star, as ``read_lamost`` returns them.
    fits
        What ``fit_pair`` says of them; by default they are fitted here, some 0.1 s each.
    ephemeris
        What eclipses say, if there are any.
    fitting
        How the orbit is fitted.

    Raises
    ------
    SchemaError
        If ``spectra`` are no exposures.
    FitsError
        If they are of several stars, or none shows two sets of lines, resolved.

    Examples
    --------
    >>> import twinlines as tw
    >>> spectra = tw.read_lamost("folder")  # doctest: +SKIP
    >>> binary = tw.solve_binary(spectra)  # doctest: +SKIP
    >>> binary.table.wilson_mass_ratio, binary.period  # doctest: +SKIP
    """
    from twinlines.pipeline.binaries.twostar.fit import fit_pair

    if missing := [name for name in EXPOSURES.variables if name not in spectra.variables]:
        raise SchemaError(f"these are no exposures: {missing[0]} is missing; read_lamost returns some")
    if not spectra.sizes["exposure"]:
        raise FitsError("there is no exposure to solve; give those of one star")
    fits = fit_pair(spectra) if fits is None else fits
    order = np.argsort(spectra["bjdmid"].values, kind="stable")
    spectra = spectra.isel(exposure=order)
    observed = {name: spectra[name].values for name in (*METADATA, "content_hash")}
    observed |= {f"snr_{arm}": spectra["snr"].sel(arm=arm).values for arm in ("B", "R")}
    rows = join(CATALOG.dataset(observed, len(order)), fits)
    found = one_thread()(sources)(rows)
    if len(found.epochs) != 1 or len(found.members[0]) != len(order):
        stars = len(np.unique(group(rows["ra"].values, rows["dec"].values)))
        raise FitsError(
            f"the {len(order)} exposures are of {stars} stars; give those of one, by their ra and dec"
            if stars > 1
            else f"none of the {len(order)} exposures shows two sets of lines that are told apart"
        )
    orbit = fit_orbit(
        *(found.epochs[0], allowing(fitting or Fitting(), ephemeris), ephemeris),
        found.exchange[0],
    )
    hashes, obsid = hashes_of(found), found.table["obsid"].values
    whole = solutions.together([solutions.columns_of(orbit, ephemeris)], obsid, hashes, 1)
    orbits = ORBITS.dataset(whole.orbits, len(whole.orbits["obsid"]))
    samples = ORBIT_SAMPLES.dataset(whole.samples, len(whole.samples["obsid"]))
    best = solutions.best_columns(whole.orbits, hashes)
    columns = {name: found.table[name].values for name in SOURCES.variables}
    table = SOURCES.dataset({**columns, "velocities_hash": hashes, **best}, 1)
    return _binary(found, rows, table, orbits, samples, None, spectra)


def _binary(
    found: Sources,
    rows: xr.Dataset,
    table: xr.Dataset,
    orbits: xr.Dataset,
    samples: xr.Dataset,
    survey: Path | None,
    spectra: xr.Dataset | None = None,
) -> Binary:
    exposures = rows.isel(exposure=np.sort(found.members[0]))
    exposures = comparable(exposures, np.zeros(exposures.sizes["exposure"], np.int64))
    if survey is not None:
        spectra = exposures_of(survey, exposures, FitsError, verify=False)
    epochs = found.epochs[0]
    if orbits.sizes["solution"] and np.isfinite(float(orbits["period"][0])):
        epochs = _as_orbit_has_it(epochs, found.exchange[0], _elements(orbits.isel(solution=[0])))
    return Binary(table, exposures, epochs, orbits, samples, spectra)


def _as_orbit_has_it(epochs: Epochs, exchange: NDArray[np.float64], orbit: Elements) -> Epochs:
    """Epochs with the stars exchanged where that was in doubt and the orbit says so."""
    model = np.stack([values[0] for values in orbit.velocities(epochs.time)], axis=1)
    turned = epochs.swapped()

    def chi2(each: Epochs) -> NDArray[np.float64]:
        off = each.velocity - model
        return np.asarray(np.einsum("ni,nij,nj->n", off, np.linalg.inv(each.covariance), off), np.float64)

    return epochs.swapped((chi2(turned) < chi2(epochs)) & (np.minimum(exchange, 1.0 - exchange) > 0.01))


def _elements(rows: xr.Dataset) -> Elements:
    return Elements(*(rows[item.name].values.astype(np.float64) for item in fields(Elements)))
