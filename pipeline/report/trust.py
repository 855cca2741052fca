"""The report's page of trust: what the validations of a survey's catalog have found, or how they are made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.validation.injection.completeness import measure
from twinlines.pipeline.validation.injection.stored import open_completeness
from twinlines.pipeline.validation.schema import INJECTIONS
from twinlines.pipeline.validation.trust.classes import Classes, TrustError
from twinlines.pipeline.validation.trust.survey import folder_of, open_calibrated

_RATES = (0.01, 0.05, 0.1, 0.2)  # parts of false candidates, of which the number of stars is told


@dataclass(frozen=True)
class Part:
    """One validation in words and a table."""

    title: str
    """What was validated."""
    words: str
    """What came of it."""
    names: tuple[str, ...] = ()
    """Headings of the table."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Its rows."""


def trust(survey: Path) -> tuple[Part, ...]:
    """What is known of how far a survey's catalog can be trusted: purity, prevalence, completeness.

    Parameters
    ----------
    survey
        Folder of the survey.
    """
    return (*_purity(survey), *_completeness(survey))


def _purity(survey: Path) -> tuple[Part, ...]:
    title = "Purity and prevalence"
    try:
        catalog = open_calibrated(survey)
    except TrustError as error:
        return (Part(title, f"Not known: {error}."),)
    about = json.loads(catalog.attrs["calibration"])["summary"]
    prevalence = about["prevalence"]
    first = np.unique(catalog["star"].values, return_index=True)[1]
    stars = catalog[["star", "star_bounded_false", "star_expected_false", "presumed_single"]].isel({CATALOG.row: first})
    tested = (stars["star"].values >= 0) & ~stars["presumed_single"].values
    rows = []
    for rate in _RATES:
        bounded, expected = (
            int(np.count_nonzero(tested & (stars[name].values <= rate)))
            for name in ("star_bounded_false", "star_expected_false")
        )
        rows.append((f"{rate:.0%}", f"{bounded:,}", f"{expected:,}"))
    confidence = about["settings"]["confidence"]
    words = (
        f"{about['nulls']:,} presumed single stars were compared with {about['tested']:,} others. Of these, "
        f"{_range(prevalence)} look double more often than single stars do. Candidates of which at most the stated "
        f"part is single: in this survey with {confidence:.0%} confidence, and in the mean over surveys like it."
    )
    return (Part(title, words, ("false at most", "stars, in this survey", "stars, in the mean"), tuple(rows)),)


def _range(prevalence: dict[str, float]) -> str:
    value, low, high = (prevalence.get(name, float("nan")) for name in ("value", "low", "high"))
    return f"{value:.1%} ({low:.1%} to {high:.1%})"


def _completeness(survey: Path) -> tuple[Part, ...]:
    title = "Completeness"
    try:
        own = open_completeness(survey)
    except TrustError as error:
        return (Part(title, f"Not known: {error}."),)
    injections = _injections(survey, own)
    if injections is None:
        return (Part(title, "Binaries were injected, but their table is gone; 'twinlines validate injection' again."),)
    found = measure(injections, Classes(**own.attrs["classes"]))
    words = (
        f"Of {found.whole.found.trials:,} binaries made of this survey's own single spectra, "
        f"{found.whole.found.value:.0%} are candidates. By what they are:"
    )
    rows = tuple(
        (name.replace("_", " "), one.label, f"{one.found.value:.2f}", f"{one.found.low:.2f}–{one.found.high:.2f}",
         f"{one.found.trials:,}")
        for name, bins in found.by.items()
        for one in bins
    )  # fmt: skip
    return (Part(title, words, ("by", "bin", "found", "95 %", "injected"), rows),)


def _injections(survey: Path, own: xr.Dataset) -> xr.Dataset | None:
    path = folder_of(Survey.at(survey), str(own.attrs["catalog"])) / str(own.attrs["made_of"])
    return numbered.load(path, INJECTIONS) if path.exists() else None
