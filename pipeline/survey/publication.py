"""Publishes a catalog: merges the results of a plan, column by column, and makes the merged catalog the current one.

The newest row per (obsid, lmjm) wins; rows are sorted by HEALPix index, then obsid and lmjm. One column is in memory
at a time, so that six million rows need no more than some hundred megabytes. A catalog appears under its name by one
atomic rename, ``CURRENT`` points to it by another, and earlier catalogs stay as they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from uuid import uuid4

import numpy as np
from astropy import units as u
from astropy.coordinates import Latitude, Longitude
from cdshealpix.nested import lonlat_to_healpix
from numpy.typing import NDArray

from twinlines.pipeline.jobs.markers import now
from twinlines.pipeline.schema import CATALOG, HEALPIX_ORDER, RESULTS, Schema
from twinlines.pipeline.storage import atomic, stores
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.plan import Plan
from twinlines.pipeline.survey.releases import SurveyError
from twinlines.pipeline.survey.runs import Recipe

NO_POSITION = -1
"""HEALPix index of a row whose position is missing or impossible; such rows come first."""


@dataclass(frozen=True)
class _Merge:
    """Which row of which result goes where."""

    parts: tuple[Path, ...]
    """Results, in the plan's order."""
    offsets: NDArray[np.int64]
    """(part + 1,) number of rows before each part."""
    destination: NDArray[np.int64]
    """(input row,) row of the catalog, or -1 for a superseded row."""
    release: NDArray[np.int16]
    """(input row,) index of the release."""
    healpix: NDArray[np.int64]
    """(input row,) HEALPix index."""
    rows: int
    """Rows of the catalog."""

    def column(self, name: str) -> NDArray[np.generic]:
        """One column of the catalog, from the results."""
        variable = RESULTS.variables[name]
        merged = variable.empty(RESULTS.shape(name, self.rows))
        for index, part in enumerate(self.parts):
            self._put(merged, stores.read_columns(part, [name])[name], self.offsets[index])
        return merged

    def spread(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """``values`` of the input rows in the catalog's order."""
        merged = np.empty(self.rows, dtype=values.dtype)
        self._put(merged, values, 0)
        return merged

    def _put(self, merged: NDArray[np.generic], values: NDArray[np.generic], offset: int | np.int64) -> None:
        destination = self.destination[offset : offset + len(values)]
        wanted = destination >= 0
        merged[destination[wanted]] = values[wanted]


def healpix(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int64]:
    """HEALPix indices, order 29, nested, of positions in degrees; :data:`NO_POSITION` where there is none.

    Parameters
    ----------
    ra, dec
        (row,) right ascension and declination (J2000), deg.
    """
    index = np.full(len(ra), NO_POSITION, dtype=np.int64)
    good = np.isfinite(ra) & (np.abs(dec) <= 90.0)  # NaN compares false
    if good.any():
        position = Longitude(ra[good] * u.deg), Latitude(dec[good] * u.deg)
        index[good] = lonlat_to_healpix(*position, depth=HEALPIX_ORDER, num_threads=1).astype(np.int64)
    return index


def _merge(plan: Plan) -> _Merge:
    parts = tuple(plan.run.result_path(task.key) for task in plan.tasks)
    columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in ("obsid", "lmjm", "ra", "dec")}
    for part in parts:
        for name, values in stores.read_columns(part, columns).items():
            columns[name].append(values)
    offsets = np.cumsum([0, *(len(values) for values in columns["obsid"])])
    obsid, lmjm, ra, dec = (np.concatenate(values) for values in columns.values())
    ranks = {release.name: rank for rank, release in enumerate(plan.releases)}
    release = np.repeat([ranks[task.release] for task in plan.tasks], np.diff(offsets)).astype(np.int16)
    # Tasks stand in the order of releases, and the sort is stable: the last of equal keys is the newest.
    order = np.lexsort((lmjm, obsid))
    newest = np.ones(len(order), dtype=bool)
    newest[:-1] = (obsid[order][1:] != obsid[order][:-1]) | (lmjm[order][1:] != lmjm[order][:-1])
    newest_rows = order[newest]
    index = healpix(ra, dec)
    newest_rows = newest_rows[np.lexsort((lmjm[newest_rows], obsid[newest_rows], index[newest_rows]))]
    destination = np.full(len(order), -1, dtype=np.int64)
    destination[newest_rows] = np.arange(len(newest_rows))
    return _Merge(parts, offsets, destination, release, index, len(newest_rows))


def _write(path: Path, plan: Plan, recipe: Recipe, name: str, number: int) -> None:
    merge = _merge(plan)
    names = [release.name for release in plan.releases]
    provenance = {
        "name": name,
        "releases": names,
        "run": recipe.key,
        **recipe.content,
        "twinlines": metadata.version("twinlines"),
        "exposures": plan.content,
        "superseded_rows": len(merge.destination) - merge.rows,
        "code": _code(plan),
        "number": number,
        "created": now(),
    }
    stores.create(path, CATALOG, merge.rows, provenance)
    for column in RESULTS.variables:
        stores.write_column(path, CATALOG, column, merge.column(column))
    stores.write_column(path, CATALOG, "healpix29", merge.spread(merge.healpix))
    stores.write_column(path, CATALOG, "release", np.array(names, dtype=object)[merge.spread(merge.release)])
    stores.write_column(path, CATALOG, "run", np.full(merge.rows, recipe.key, dtype=object))


def _code(plan: Plan) -> dict[str, int]:
    """Rows, superseded ones included, by the version of Twinlines that computed them."""
    rows: dict[str, int] = {}
    for task in plan.tasks:
        version = str(plan.run.marker(task.key).get("twinlines", "unknown"))
        rows[version] = rows.get(version, 0) + task.rows
    return rows


def publish(survey: Survey, plan: Plan, recipe: Recipe) -> tuple[Path, bool]:
    """Publish the catalog of a plan whose tasks are all done; returns the current one's folder, and whether it is new.

    The current one is then that of the plan or, if others were made of that (:meth:`.Survey.made_of`), the last one
    that is whole. A catalog that has lost files since it was published, or whose files are not what was written, is
    published again. The caller holds the survey's lock.

    Raises
    ------
    SurveyError
        If a result is missing, or a catalog of this name was made from other exposures.
    """
    unfinished = [str(task) for task in plan.tasks if not plan.run.is_done(task.key)]
    if unfinished:
        raise SurveyError(f"{len(unfinished)} shards have no result, first {unfinished[0]}; run again to compute them")
    folder = survey.catalogs_folder
    folder.mkdir(exist_ok=True)
    for stale in folder.glob(".*.tmp"):
        shutil.rmtree(stale)
    name = survey.catalog_name(plan.releases[-1].name, recipe.key)
    target = survey.catalog(name)
    new = not target.exists() or bool(stores.damaged(target))
    if new:
        put(target, CATALOG, lambda aside: _write(aside, plan, recipe, name, survey.next_catalog_number))
    elif survey.about_catalog(name).get("exposures") != plan.content:
        raise SurveyError(
            f"{target} was made from other exposures than its releases hold now, but a release must not change; "
            "remove that catalog if the releases are right as they are"
        )
    # What was made of it since, as by zero points, has all that it has, and more.
    made_of_it = (made for made in survey.made_of(name) if not stores.damaged(survey.catalog(made)))
    chosen = next(made_of_it, name)
    survey.make_current(chosen)
    return survey.catalog(chosen), new


def put(target: Path, schema: Schema, write: Callable[[Path], None]) -> None:
    """Let a store appear whole under its name, by one rename; a damaged one that is there gives way.

    Parameters
    ----------
    target
        Where it will be; its folder is there.
    schema
        Its schema.
    write
        Makes the store in the folder that it is given.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}-{uuid4().hex[:8]}.tmp")
    try:
        write(aside)
        stores.seal(aside, schema)
        _sync_tree(aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if target.exists():
        target.rename(aside.with_name(f"{aside.name}.damaged.tmp"))
    aside.rename(target)
    atomic.sync_folder(target.parent)
    shutil.rmtree(aside.with_name(f"{aside.name}.damaged.tmp"), ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    """Flush a folder and all that is in it to the disk."""
    for path in _walk(folder):
        atomic.sync_folder(path)


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path
    yield folder
