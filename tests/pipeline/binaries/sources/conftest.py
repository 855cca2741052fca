"""A survey whose fits are made up: binaries on known orbits, without a spectrum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import astropy.units as u
import cdshealpix
import numpy as np
import pytest
import xarray as xr

from tests.pipeline.binaries.sources.test_source import TIMES, rows_of
from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.schema import FITS
from twinlines.pipeline.schema import CATALOG, HEALPIX_ORDER
from twinlines.pipeline.survey.folder import Survey

Parts = Sequence[tuple[xr.Dataset, xr.Dataset]]

KEY = "0123456789abcdef"


def publish(folder: Path, parts: Parts) -> Path:
    """Let made-up exposures and their fits be a survey's."""
    catalog, fits = (xr.concat(each, "exposure", data_vars="all") for each in zip(*parts, strict=True))
    index = cdshealpix.nested.lonlat_to_healpix(catalog.ra.values * u.deg, catalog.dec.values * u.deg, HEALPIX_ORDER)
    catalog = catalog.assign(healpix29=("exposure", index.astype(np.int64)))
    catalog = catalog.isel(exposure=np.argsort(catalog.healpix29.values, kind="stable"))
    place = Survey(folder)
    kept, pointed = place.catalogs_folder, folder / "fits" / KEY
    for made in (kept, pointed):
        made.mkdir(parents=True, exist_ok=True)
    rows = catalog.sizes["exposure"]
    about = {"name": "made up"}
    path = numbered.put(kept, "made", CATALOG, rows, lambda name: np.asarray(catalog[name].values), about)
    place.make_current(path.name)
    numbered.put(pointed, "fits", FITS, fits.sizes["exposure"], lambda name: np.asarray(fits[name].values), {})
    (folder / "fits" / "CURRENT").write_text(f"{KEY}\n")
    return folder


@pytest.fixture
def survey(tmp_path: Path) -> Callable[[Parts], Path]:
    """Publishes made-up exposures."""
    return lambda parts: publish(tmp_path / "survey", parts)


@pytest.fixture
def three(survey: Callable[[Parts], Path]) -> Path:
    """A survey of three stars: one with many epochs, one with five, one with a single one."""
    return survey([rows_of(TIMES), rows_of(TIMES[:5], star=1), rows_of(TIMES[[3]], star=2)])
