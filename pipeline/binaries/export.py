"""What follows the verdict as tables: two-star fits, stars, orbits by Gaia's names or in SB9's layout, and samples.

Knows which rows and columns a table has; how formats have them, :mod:`twinlines.pipeline.catalog.tables` knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from twinlines.pipeline.binaries.fits.store import FitsError, join, load_fits, shows_two
from twinlines.pipeline.binaries.schema import (
    FITS,
    GAIA_ORBITS,
    GAIA_SOLUTIONS,
    ON_SCALE,
    ORBIT_SAMPLES,
    ORBITS,
    SOURCES,
    FitQuality,
)
from twinlines.pipeline.binaries.sources.solutions import open_orbits, open_samples
from twinlines.pipeline.binaries.sources.survey import open_sources
from twinlines.pipeline.binaries.zeropoints.calibrated import zero_points_of
from twinlines.pipeline.binaries.zeropoints.pairs import on_one_scale
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.catalog.export import Columns, ExportError, write
from twinlines.pipeline.catalog.export import export as export_catalog
from twinlines.pipeline.catalog.tables.columns import Column, Values, columns_of, select
from twinlines.pipeline.catalog.tables.formats import FORMATS, Format
from twinlines.pipeline.lookup import NOWHERE, places_of
from twinlines.pipeline.schema import CATALOG, METADATA, Schema, Variable
from twinlines.pipeline.survey.folder import Survey

ORBIT_FORMATS: Mapping[str, Format] = {
    **FORMATS,
    "sb9": Format("layout of SB9, a folder", (".sb9",), "twinlines.pipeline.binaries.orbits.sb9"),
}
"""Formats of tables of orbits."""

_TITLES: Mapping[str, tuple[Schema, str]] = {
    "fits": (FITS, "Two-star fits"),
    "sources": (SOURCES, "Double-lined stars"),
    "orbits": (ORBITS, "Solutions of orbits of double-lined stars"),
    "orbit_samples": (ORBIT_SAMPLES, "Posterior samples of orbits of double-lined stars"),
}
"""Tables that stores are, and what they are called."""


def export(
    rows: xr.Dataset,
    path: str | Path,
    *,
    columns: Columns = "all",
    format: str | None = None,  # noqa: A002 (the word for it)
    overwrite: bool = False,
) -> int:
    """Write rows of a catalog, of two-star fits, stars or orbits as a table that opens everywhere; return their number.

    Parameters
    ----------
    rows
        What ``tw.open_catalog``, ``tw.open_fits``, ``tw.open_sources`` or ``tw.open_orbits`` returned, rows of it, or
        verdicts; also posterior samples of orbits.
    path
        File, or folder, to write.
    columns
        "all"; of a catalog also "table4"; or names of columns, in the order in which they are wanted.
    format
        "fits", "votable", "parquet", "hats", "mrt", "cds" or "moc"; by default as the name of the file ends.
    overwrite
        Whether a file that is there may be replaced.

    Raises
    ------
    ExportError
        If the rows are none of these, there is no such column or format, or the table cannot be written there.

    Examples
    --------
    >>> import twinlines as tw
    >>> tw.export(tw.open_sources("S"), "stars.vot")  # doctest: +SKIP
    """
    kind = rows.attrs.get("schema")
    if (known := _TITLES.get(str(kind))) is not None:
        schema, title = known
        return _write(rows, Path(path), schema.variables, columns, title, schema.row, format, overwrite)
    if "exposure" not in rows.dims:
        raise ExportError(
            f"rows of {kind!r} are no table of Twinlines; give a catalog, fits, stars, orbits, or rows of these"
        )
    return export_catalog(rows, Path(path), columns=columns, format=format, overwrite=overwrite)


def export_fits(
    survey: str | Path,
    path: Path,
    *,
    every: bool = False,
    columns: Columns = "all",
    format: str | None = None,  # noqa: A002
    overwrite: bool = False,
) -> int:
    """Write a survey's fits as a table and return the number of rows.

    The columns are those of the catalog that say what was observed, the verdict of both arms at penalty 16, and those
    of :data:`.schema.FITS`, for the rows of the current catalog that were fitted as they are; with zero points also
    those of :data:`.schema.ON_SCALE`.

    Parameters
    ----------
    survey
        Folder of the survey.
    path
        File, or folder, to write.
    every
        Exposures that turned out to show one star, too.
    columns, format, overwrite
        As :func:`export`.

    Raises
    ------
    FitsError, CatalogError
        If there are no fits, or no catalog, or the table cannot be written there.
    """
    catalog, fits = catalogs.open(survey), load_fits(survey)
    known = np.isin(catalog["obsid"].values, fits["obsid"].values)
    zero_points = zero_points_of(survey, catalog)
    rows = on_one_scale(join(catalog.isel(exposure=np.flatnonzero(known)), fits), zero_points)
    bits = rows["fit_quality"].values
    wanted = (bits & FitQuality.NO_SPECTRUM) == 0 if every else shows_two(rows)
    observed = {name: CATALOG.variables[name] for name in (*METADATA, "snr_B", "snr_R", "pb_pct_J_16", "release")}
    about = {"fits": _about(fits.attrs), "rows_in": fits.sizes["exposure"]}
    rows = rows.isel(exposure=np.flatnonzero(wanted)).assign_attrs(about)
    variables = {**observed, **FITS.variables, **(ON_SCALE if zero_points is not None else {})}
    return _said(lambda: _write(rows, path, variables, columns, "Two-star fits", "exposure", format, overwrite))


def export_stars(
    survey: str | Path,
    path: Path,
    what: str = "sources",
    *,
    columns: Columns = "all",
    format: str | None = None,  # noqa: A002
    overwrite: bool = False,
) -> int:
    """Write what a survey knows of its stars as a table, and return the number of rows.

    Parameters
    ----------
    survey
        Folder of the survey.
    path
        File, or folder, to write.
    what
        "sources": the stars, columns of :data:`.schema.SOURCES`. "orbits": the likeliest of each star of which a period
        is known, however well, as ``conf_spectro_period`` says; columns of :data:`.schema.GAIA_ORBITS`. "solutions":
        every likely period of each star, the likeliest first, and limits of stars that have too few epochs; columns of
        :data:`.schema.GAIA_SOLUTIONS`. "samples": of the posteriors, columns of :data:`.schema.ORBIT_SAMPLES`.
    columns, format, overwrite
        As :func:`export` has them; of orbits ``format`` may also be "sb9".

    Raises
    ------
    FitsError
        If there are no stars, or orbits, or the table cannot be written there.
    """
    rows_of, variables, title, row = _OF_STARS[what]
    rows, formats = rows_of(survey), ORBIT_FORMATS if what == "orbits" else FORMATS
    return _said(lambda: _write(rows, path, variables, columns, title, row, format, overwrite, formats))


def _solutions(survey: str | Path) -> xr.Dataset:
    orbits = open_orbits(survey).load()
    return solutions_of(orbits, _sources(survey)).assign_attrs(rows_in=orbits.sizes["solution"])


def _samples(survey: str | Path) -> xr.Dataset:
    samples = open_samples(survey)
    return samples.assign_attrs({**_sources(survey).attrs, **_sampling(samples), "rows_in": samples.sizes["sample"]})


def solutions_of(orbits: xr.Dataset, sources: xr.Dataset) -> xr.Dataset:
    """Solutions with positions and what Gaia's table has besides: variables of :data:`.schema.GAIA_SOLUTIONS`.

    Parameters
    ----------
    orbits
        Rows of :data:`.schema.ORBITS`.
    sources
        Rows of :data:`.schema.SOURCES`; a star that is none of them has no position.
    """
    place = places_of(orbits["obsid"].values, sources["obsid"].values)
    there = place != NOWHERE
    known = {}
    for name in ("ra", "dec"):
        values = np.full(len(place), np.nan)
        values[there] = sources[name].values[place[there]]
        known[name] = values
    solved = np.isfinite(orbits["period"].values)
    known["nss_solution_type"] = np.where(solved, "SB2", "").astype(object)
    known["conf_spectro_period"] = orbits["mode_probability"].values
    known["goodness_of_fit"] = goodness(orbits["obj_func"].values, orbits["freedom"].values.astype(np.float64))
    added = {name: ("solution", values) for name, values in known.items()}
    return orbits.assign(added).assign_attrs({**sources.attrs, **_sampling(orbits)})


def _sampling(orbits: xr.Dataset) -> dict[str, str]:
    """What orbits say of how they were sampled."""
    own = orbits.attrs
    said = {name: own[name] for name in ("numerics", "ephemerides", "created") if name in own}
    fitting = {"fitting": json.dumps(own["fitting"], sort_keys=True)} if "fitting" in own else {}
    return {**fitting, "orbits": json.dumps(said), "schema": str(own.get("schema"))}


def orbits_of(sources: xr.Dataset) -> xr.Dataset:
    """Orbits of the stars of which a period is known, with the variables of :data:`.schema.GAIA_ORBITS`."""
    rows = sources.isel(source=np.flatnonzero(np.isfinite(sources["period"].values)))
    chi2, freedom = rows["orbit_chi2"].values, rows["orbit_freedom"].values.astype(np.float64)
    known = {
        "nss_solution_type": np.full(rows.sizes["source"], "SB2", object),
        "obj_func": chi2,
        "goodness_of_fit": goodness(chi2, freedom),
        "conf_spectro_period": rows["mode_probability"].values,
        "rv_n_obs_primary": rows["epochs_double"].values,
        "rv_n_obs_secondary": rows["epochs_double"].values,
    }
    return rows.assign({name: ("source", values) for name, values in known.items()})


def goodness(chi2: Values, freedom: Values) -> Values:
    """chi2, (row,), of so many degrees of freedom as a standard normal variable; NaN where there are none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(freedom > 0, chi2 / freedom, np.nan)
        return np.asarray(np.sqrt(4.5 * freedom) * (np.cbrt(ratio) + 2.0 / (9.0 * freedom) - 1.0))


def _sources(survey: str | Path) -> xr.Dataset:
    """A survey's stars, loaded, with what their catalog says of itself."""
    rows = open_sources(survey).load()
    own = dict(rows.attrs)
    catalog = Survey(Path(survey)).about_catalog(str(own.get("catalog", "")))
    said = {name: value for name, value in catalog.items() if name not in ("number", "created", "schema")}
    about = {name: own[name] for name in ("catalog", "fits", "fitting", "radius", "created") if name in own}
    stars = {"sources": json.dumps({"numerics": own.get("numerics")}), "schema": "sources"}
    return rows.assign_attrs({**said, **about, **stars, "rows_in": rows.sizes["source"]})


def _about(attrs: Mapping[str, Any]) -> str:
    return json.dumps({name: attrs[name] for name in ("numerics", "library", "created") if name in attrs})


def _write(
    rows: xr.Dataset,
    path: Path,
    variables: Mapping[str, Any],
    columns: Columns,
    title: str,
    dim: str,
    format_: str | None,
    overwrite: bool,
    formats: Mapping[str, Format] = FORMATS,
) -> int:
    chosen: Sequence[Column] = columns_of(rows, variables)
    if not isinstance(columns, str):
        chosen = select(chosen, list(columns))
    elif columns != "all":
        raise ExportError(f"columns is {columns!r}; give 'all', or a list of names")
    return write(
        rows, path, chosen, title=f"{title} by Twinlines", dim=dim, format=format_, formats=formats, overwrite=overwrite
    )


def _said(make: Callable[[], int]) -> int:
    try:
        return make()
    except ExportError as error:
        raise FitsError(str(error)) from error


_OF_STARS: Mapping[str, tuple[Callable[[str | Path], xr.Dataset], Mapping[str, Variable], str, str]] = {
    "sources": (_sources, SOURCES.variables, "Double-lined stars", "source"),
    "orbits": (lambda survey: orbits_of(_sources(survey)), GAIA_ORBITS, "Orbits of double-lined stars", "source"),
    "solutions": (_solutions, GAIA_SOLUTIONS, _TITLES["orbits"][1], "solution"),
    "samples": (_samples, ORBIT_SAMPLES.variables, _TITLES["orbit_samples"][1], "sample"),
}
"""Tables of stars: what makes their rows, their columns, what they are called, and the name of the rows' dimension."""
