"""Each star's own completeness, opened, and joined to a survey's stars with two sets of lines."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.sources.survey import open_sources
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.lookup import NOWHERE, places_of
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.validation.schema import COMPLETENESS
from twinlines.pipeline.validation.trust.classes import TrustError
from twinlines.pipeline.validation.trust.survey import folder_of

STEM = "completeness"
"""Kind of the stores."""


def open_completeness(survey: str | Path) -> xr.Dataset:
    """Open each star's own completeness, of the survey's current catalog.

    Parameters
    ----------
    survey
        Folder of the survey.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.validation.schema.COMPLETENESS`.

    Raises
    ------
    TrustError
        If no binaries were injected for this catalog.
    """
    place = Survey.at(survey)
    name = str(catalogs.open(survey).attrs["name"])
    advice = f"'twinlines validate injection --survey {survey}' makes it"
    return numbered.open_newest(
        *(folder_of(place, name), STEM, COMPLETENESS),
        none=f"the catalog {name} of {survey} has no completeness; {advice}",
        again=f"{advice} again",
        refused=TrustError,
        how=numbered.load,
    )[1]


def sources_with_completeness(survey: str | Path) -> xr.Dataset:
    """A survey's stars with two sets of lines, each with its own completeness.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.binaries.schema.SOURCES`, and ``completeness`` with its interval; NaN where no
        exposure of the star can be judged.

    Raises
    ------
    FitsError, TrustError
        If there are no stars, or no completeness.
    """
    return with_completeness(open_sources(survey), open_completeness(survey))


def with_completeness(table: xr.Dataset, own: xr.Dataset) -> xr.Dataset:
    """Stars, in their order, with the columns of their completeness; missing where ``own`` has not the star.

    Parameters
    ----------
    table
        Rows of :data:`twinlines.pipeline.binaries.schema.SOURCES`, or of anything that has ``obsid`` by ``source``.
    own
        Rows of :data:`twinlines.pipeline.validation.schema.COMPLETENESS`.
    """
    place = places_of(table["obsid"].values, own["obsid"].values)
    there = place != NOWHERE
    joined = {}
    for name in ("completeness", "completeness_low", "completeness_high", "injections"):
        variable = COMPLETENESS.variables[name]
        values = variable.empty((len(place),))
        values[there] = own[name].values[place[there]]
        joined[name] = (("source",), values, {"units": variable.units, "long_name": variable.long_name})
    return table.assign(joined)
