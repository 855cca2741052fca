"""Publishes a catalog: merges the results of a plan, column by column, and makes the merged catalog the current one.

The newest row per (obsid, lmjm) wins; rows are sorted by HEALPix index, then obsid and lmjm. A few columns are in
memory at a time, so that six million rows need some hundred megabytes. A catalog appears under its name by one
atomic rename, ``CURRENT`` points to it by another, and earlier catalogs stay as they are. The index beside it
(:mod:`twinlines.pipeline.survey.catalog_index`) is written in between.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from astropy import units as u
from astropy.coordinates import Latitude, Longitude
from cdshealpix.nested import lonlat_to_healpix
from numpy.typing import NDArray

from twinlines.pipeline.jobs.markers import now
from twinlines.pipeline.schema import CATALOG, HEALPIX_ORDER, RESULTS, Schema
from twinlines.pipeline.storage import atomic, columns, stores
from twinlines.pipeline.survey import catalog_index
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.plan import Plan
from twinlines.pipeline.survey.releases import SurveyError
from twinlines.pipeline.survey.runs import Recipe

_BYTES_A_ROW = 40  # of the columns that are merged at a time

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

    def columns(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Some columns of the catalog, from the results; each of these is opened once."""
        merged = {name: RESULTS.variables[name].empty(RESULTS.shape(name, self.rows)) for name in names}
        texts: dict[str, str] = {}  # each once, whatever the rows that have it
        for index, part in enumerate(self.parts):
            for name, values in columns.read_packed(part, RESULTS, names).items():
                if values.dtype == object:
                    values = np.array([texts.setdefault(text, text) for text in values.tolist()], object)
                self._put(merged[name], values, self.offsets[index])
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
    offsets = np.cumsum([0, *(task.rows for task in plan.tasks)])
    keys = {name: np.empty(offsets[-1], RESULTS.variables[name].dtype) for name in ("obsid", "lmjm")}
    index = np.empty(offsets[-1], np.int64)
    for part, task, start in zip(parts, plan.tasks, offsets.tolist(), strict=False):
        read = columns.read_packed(part, RESULTS, (*keys, "ra", "dec"))
        if len(read["obsid"]) != task.rows:
            raise SurveyError(f"{part} has {len(read['obsid'])} rows, its task {task.rows}; remove it and run again")
        for name, values in keys.items():
            values[start : start + task.rows] = read[name]
        index[start : start + task.rows] = healpix(read["ra"], read["dec"])
    obsid, lmjm = keys.values()
    ranks = {release.name: rank for rank, release in enumerate(plan.releases)}
    release = np.repeat([ranks[task.release] for task in plan.tasks], np.diff(offsets)).astype(np.int16)
    # Tasks stand in the order of releases, and the sort is stable: the last of equal keys is the newest.
    order = np.lexsort((lmjm, obsid))
    newest = np.ones(len(order), dtype=bool)
    newest[:-1] = (obsid[order][1:] != obsid[order][:-1]) | (lmjm[order][1:] != lmjm[order][:-1])
    newest_rows = order[newest]
    newest_rows = newest_rows[np.lexsort((lmjm[newest_rows], obsid[newest_rows], index[newest_rows]))]
    destination = np.full(len(order), -1, dtype=np.int64)
    destination[newest_rows] = np.arange(len(newest_rows))
    return _Merge(parts, offsets, destination, release, index, len(newest_rows))


def _write(path: Path, plan: Plan, recipe: Recipe, name: str, number: int) -> None:
    merge = _merge(plan)
    releases = [release.name for release in plan.releases]
    provenance = {
        "name": name,
        "releases": releases,
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
    for names in _together():
        merged = merge.columns(names)
        while merged:  # what is written is forgotten
            stores.write_column(path, CATALOG, *merged.popitem())
    stores.write_column(path, CATALOG, "healpix29", merge.spread(merge.healpix))
    stores.write_column(path, CATALOG, "release", np.array(releases, dtype=object)[merge.spread(merge.release)])
    runs = np.empty(merge.rows, dtype=object)
    runs.fill(recipe.key)  # np.full would make a text for each row
    stores.write_column(path, CATALOG, "run", runs)


def _together() -> list[list[str]]:
    """Columns that are merged at a time: as many as few bytes a row allow."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, variable in RESULTS.variables.items():
        item = np.dtype(object if variable.dtype == "str" else variable.dtype).itemsize
        own = item * int(np.prod([RESULTS.sizes[dim] for dim in variable.dims[1:]]))
        if groups[-1] and size + own > _BYTES_A_ROW:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += own
    return groups


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
    sweep(folder)
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
    write_index(survey, chosen)
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


def sweep(folder: Path) -> None:
    """Remove what a crash has left half written among published stores and their indices."""
    for stale in folder.glob(".*.tmp"):
        if stale.is_dir():
            shutil.rmtree(stale)
        else:
            stale.unlink(missing_ok=True)


def write_index(survey: Survey, name: str) -> None:
    """Write the index beside a catalog, unless it is there and whole; the caller holds the survey's lock."""
    catalog, path = survey.catalog(name), survey.catalog_index(name)
    identity = columns.identity_of(catalog)
    if not identity:  # of before there were inventories: nothing tells it from another
        return
    obsid, _ = columns.Column.open(catalog / "obsid", 0, None)
    rows = obsid.shape[0]
    with suppress(OSError, catalog_index.CatalogIndexError):
        catalog_index.CatalogIndex.open(path, identity, rows).check()
        return
    catalog_index.write(path, identity, rows, lambda column: stores.read_columns(catalog, [column])[column])


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
