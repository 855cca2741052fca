"""The published catalog: open it, ask it for candidates, a cone or a source, and export it.

    from twinlines.pipeline import catalog
    cat = catalog.open("survey")
    cat.sb2.candidates(penalty=16, percentile=0, threshold=0.5)

A catalog is an xarray Dataset; the questions are methods of its accessor ``sb2`` and return Datasets of fewer rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import xarray as xr

from twinlines.pipeline.catalog.published import OpenedCatalog, distrust
from twinlines.pipeline.catalog.questions import CatalogError  # and with them the accessor ``sb2``
from twinlines.pipeline.schema import CATALOG, SchemaError
from twinlines.pipeline.storage.columns import Store, open_columns
from twinlines.pipeline.storage.stores import StoreError
from twinlines.pipeline.survey.catalog_index import CatalogIndex, CatalogIndexError
from twinlines.pipeline.survey.folder import Survey


def open(survey: str | Path, name: str | None = None, *, release: str | None = None) -> xr.Dataset:  # noqa: A001
    """Open a survey's catalog lazily.

    Parameters
    ----------
    survey
        Folder of the survey.
    name
        Catalog within ``survey/catalogs``; by default the one named in ``CURRENT``.
    release
        Instead of a name, the newest release that the catalog should cover. If it has catalogs of several runs, that of
        the current catalog's run counts, else the one that was published last.

    Raises
    ------
    CatalogError
        If the survey or the catalog does not exist, naming those that do, or has lost files.

    Examples
    --------
    >>> import twinlines as tw
    >>> tw.open_catalog("S").sb2.candidates(penalty=16, percentile=0, threshold=0.5)  # doctest: +SKIP
    """
    place = Survey(Path(survey))
    if not place.path.is_dir():
        raise CatalogError(
            f"there is no survey at {survey}; 'twinlines ingest FITS_DIR --survey {survey} --release NAME' makes one"
        )
    if name and release:
        raise CatalogError(
            f"the catalog {name!r} and the catalog of release {release!r} are asked for; give one of them"
        )
    known = list(place.catalogs)
    if release:
        name = place.catalog_of_release(release)
        if name is None:
            raise CatalogError(
                f"the survey {survey} has no catalog of release {release!r}; it has {known}; "
                f"'twinlines run --survey {survey} --release {release}' makes it"
            )
    folder = place.catalog(name) if name else place.current
    if folder is None:
        raise CatalogError(f"the survey {survey} has published no catalog yet; run 'twinlines run --survey {survey}'")
    if not folder.exists():
        again = "" if name else f"; CURRENT names it, and 'twinlines run --survey {survey}' names the newest again"
        raise CatalogError(f"the survey {survey} has no catalog {folder.name!r}; it has {known}{again}")
    try:
        opened = open_columns(folder, CATALOG)
    except StoreError as error:
        raise CatalogError(f"{error}; 'twinlines run --survey {survey}' publishes the catalog again") from error
    except SchemaError as error:
        stored = place.about_catalog(folder.name)
        if stored.get("schema") == CATALOG.name and int(stored.get("schema_version", 0)) > CATALOG.version:
            raise CatalogError(
                f"{folder} was written by a newer Twinlines ({stored.get('twinlines', 'unknown')}; catalog version "
                f"{stored['schema_version']}, and this one reads up to {CATALOG.version}); install that one, or a later"
            ) from error
        raise
    catalog = opened.dataset
    catalog.attrs = {
        name: json.dumps(value) if isinstance(value, Mapping) else value for name, value in catalog.attrs.items()
    }  # of kinds that netCDF can hold: tables of their own, as the parameters of a run, become JSON
    catalog.attrs["rows_in"] = catalog.sizes[CATALOG.row]  # stays known of those that are chosen
    catalog.encoding["source"] = str(folder)  # where other questions than the catalog's own look for their answers
    return OpenedCatalog(opened.columns, opened.names, _index(place, folder, opened)).attach(catalog)


def _index(survey: Survey, folder: Path, opened: Store) -> CatalogIndex | None:
    """The index beside a catalog, if it has one that is its own and whole."""
    try:
        rows = opened.dataset.sizes[CATALOG.row]
        return CatalogIndex.open(survey.catalog_index(folder.name), opened.identity, rows)
    except FileNotFoundError:
        return None
    except (CatalogIndexError, OSError) as error:
        distrust(error)
        return None
