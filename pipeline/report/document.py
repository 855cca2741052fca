"""The report itself: a survey's stars, pages, counts and trust, written as one HTML file that needs nothing else."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import quote

import numpy as np
import xarray as xr
from jinja2 import Environment, StrictUndefined

from twinlines.pipeline.binaries.fits.store import FitsError
from twinlines.pipeline.binaries.sources.binary import Binary, SurveyBinaries
from twinlines.pipeline.binaries.sources.survey import StaleWarning
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.report.overview import overview
from twinlines.pipeline.report.starpage import StarPage, page
from twinlines.pipeline.report.stars import Listed, listed
from twinlines.pipeline.report.trust import trust
from twinlines.pipeline.storage import atomic
from twinlines.pipeline.survey.exposures import exposures_of
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import KEY_COLUMNS

MOST_BYTES = 20_000_000
"""Size of a report at most: pages that would make it larger are left out, the least likely stars first."""

COLUMNS = (
    ("obsid", "obsid"),
    ("p", "p"),
    ("sb2", "P(SB2)"),
    ("epochs", "exposures"),
    ("double", "double"),
    ("apart", "apart (km/s)"),
    ("q", "q"),
    ("period", "P (d)"),
)
"""Columns of the table of stars: names for filters, and headings."""

_ROOM = 400_000  # bytes, of what is not a page
_TOGETHER = 16  # stars whose spectra are in memory: some 100 MB


class ReportError(RuntimeError):
    """A report cannot be written as asked."""


@dataclass(frozen=True)
class ReportFile:
    """What was written."""

    path: Path
    """The file."""
    bytes: int
    """Its size."""
    stars: int
    """Stars in its table."""
    pages: int
    """Stars that have a page."""
    left_out: int
    """Stars that would have had one, had there been room."""
    stale: tuple[str, ...]
    """What it was made of that is older than the catalog, the fits or the zero points, and what to do."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {**asdict(self), "path": str(self.path)}


def write_report(
    survey: str | Path,
    path: str | Path,
    *,
    best: int = 50,
    most: int = 2000,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ReportFile:
    """Write a survey's report.

    Parameters
    ----------
    survey
        Folder of the survey, with a catalog; what two-star fits, stars, orbits and calibrations there are is told, too.
    path
        File to write; ends in ``.html``.
    best
        Stars that have a page of their own, the likeliest.
    most
        Stars in the table at most.
    overwrite
        Whether a file that is there may be replaced.
    progress
        Told of each page; the stage is "pages".

    Raises
    ------
    ReportError
        If the file is there, its folder is not, its name is not a page's, or ``best`` or ``most`` are below 0 and 1.
    CatalogError
        If there is no survey or no catalog.
    FitsError
        If a release that the catalog is made of is gone.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ReportError(f"{target} does not end in .html, by which a browser knows it; give it such a name")
    place = Survey.at(survey)
    catalog = catalogs.open(place.path)
    if target.is_dir():
        raise ReportError(f"{target} is a folder; give the name of a file")
    if target.exists() and not overwrite:
        raise ReportError(f"{target} is there already; give another name, or --overwrite")
    if not target.parent.is_dir():
        raise ReportError(f"there is no folder {target.parent}; make it first")
    try:  # before the pages are made, which takes minutes
        with TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise ReportError(
            f"nothing can be written into {target.parent}: {error.strerror}; give another place"
        ) from error
    if best < 0 or most < 1:
        raise ReportError(f"{best} pages and {most} stars are asked for; give 0 or more, and 1 or more")
    with warnings.catch_warnings(record=True) as said:
        # Of tables that are older than the fits: the pages are made of the fits as they are, and the table is not.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("always", StaleWarning)
        found = listed(catalog, place.path, most)
        stars, left_out = _stars(found, place.path, best, progress)
    stale = tuple(dict.fromkeys(str(each.message) for each in said if issubclass(each.category, StaleWarning)))
    text = _render(place, catalog, found, stars, left_out, stale)
    data = text.encode()
    atomic.write_bytes(target, data)
    pages = sum(star["has_page"] for star in stars)
    return ReportFile(target, len(data), len(stars), pages, left_out, stale)


def _stars(found: Listed, survey: Path, best: int, progress: Progress) -> tuple[list[dict[str, Any]], int]:
    """What the template needs of each star, and the pages for which there was no room."""
    stars, spent, wanted = [], _ROOM, min(best, len(found))
    try:
        binaries = SurveyBinaries.open(survey) if wanted else None
    except FitsError:
        binaries = None  # no stars yet
    pages = _pages(found, survey, binaries, wanted)
    for place in range(len(found)):
        told = _in_table(found, place)
        spent += 700
        if place < wanted:
            exposures, star = next(pages)
            size = len(star.thumbnail) + sum(len(picture.svg) for picture in star.pictures) + 600 * len(star.epochs)
            progress("pages", place + 1, wanted)
            if spent + size > MOST_BYTES:
                wanted = place
            else:
                spent += size
                told |= _as_page(found, place, star, exposures)
        stars.append(told)
    return stars, min(best, len(found)) - wanted


def _pages(
    found: Listed, survey: Path, binaries: SurveyBinaries | None, wanted: int
) -> Iterator[tuple[xr.Dataset, StarPage]]:
    """Exposures and page of each of the first stars; spectra of several are read together."""
    for start in range(0, wanted, _TOGETHER):
        several = [found.exposures(place) for place in range(start, min(start + _TOGETHER, wanted))]
        names = [*KEY_COLUMNS, "release"]
        rows = xr.concat([each[names] for each in several], "exposure")
        spectra = exposures_of(survey, rows, FitsError, verify=False)
        ends = np.cumsum([each.sizes["exposure"] for each in several])
        for place, (exposures, end) in enumerate(zip(several, ends.tolist(), strict=True), start):
            mine = spectra.isel(exposure=slice(end - exposures.sizes["exposure"], end))
            yield exposures, page(exposures, mine, _binary(binaries, int(found.obsid[place])))


def _binary(binaries: SurveyBinaries | None, obsid: int) -> Binary | None:
    try:
        return binaries.binary(obsid, spectra=False) if binaries else None
    except FitsError:
        return None  # none of its exposures is resolved


def _in_table(found: Listed, star: int) -> dict[str, Any]:
    numbers = {
        "obsid": float(found.obsid[star]),
        "p": float(found.best[star]),
        "sb2": found.value(star, "sb2_probability"),
        "epochs": float(len(found.rows[star])),
        "double": found.value(star, "epochs_double"),
        "apart": found.value(star, "separation_largest"),
        "q": found.value(star, "wilson_mass_ratio"),
        "period": found.value(star, "period"),
    }
    words = {
        "p": _said(numbers["p"], 3),
        "sb2": _said(numbers["sb2"], 3),
        "epochs": _said(numbers["epochs"], 0),
        "double": _said(numbers["double"], 0),
        "apart": _said(numbers["apart"], 0),
        "q": _with_error(numbers["q"], found.value(star, "wilson_mass_ratio_error")),
        "period": _period(numbers["period"], found.value(star, "mode_probability")),
    }
    texts = {name: "" if np.isnan(value) else f"{value:.6g}" for name, value in numbers.items()}
    return {
        "obsid": str(int(found.obsid[star])),
        "numbers": texts,
        "words": {**words, "obsid": str(int(found.obsid[star]))},
        "thumbnail": "",
        "has_page": False,
    }


def _as_page(found: Listed, star: int, told: StarPage, exposures: xr.Dataset) -> dict[str, Any]:
    ra, dec = (float(np.nanmedian(exposures[name].values)) for name in ("ra", "dec"))
    at = quote(f"{ra:.6f} {dec:+.6f}")
    period = found.value(star, "period")
    parts = [f"{len(told.epochs)} exposures"]
    if np.isfinite(double := found.value(star, "epochs_double")):
        parts.append(f"{double:.0f} show two sets of lines that are told apart")
        if (moonlit := found.value(star, "epochs_moonlight")) > 0.0:
            parts.append(f"in {moonlit:.0f} of these the second star may be the Moon's light")
    if np.isfinite(chance := found.value(star, "sb2_probability")):
        parts.append(f"probability to be an SB2 by all of them {chance:.3f}")
    if np.isfinite(period):
        parts.append(
            f"likeliest period {period:.5f} d, with {found.value(star, 'mode_probability'):.0%} of the posterior"
        )
    return {
        "thumbnail": told.thumbnail,
        "has_page": True,
        "charts": told.pictures,
        "epochs": told.epochs,
        "about": "; ".join(parts) + ".",
        "position": f"RA {ra:.5f}° Dec {dec:+.5f}°",
        "links": [
            ("Simbad", f"https://simbad.cds.unistra.fr/simbad/sim-coo?Coord={at}&Radius=5&Radius.unit=arcsec"),
            ("Aladin", f"https://aladin.cds.unistra.fr/AladinLite/?target={at}&fov=0.05"),
        ],
    }


def _render(
    place: Survey,
    catalog: xr.Dataset,
    found: Listed,
    stars: list[dict[str, Any]],
    left_out: int,
    stale: tuple[str, ...],
) -> str:
    whole = overview(catalog)
    counts = dict(whole.counts)
    title = f"Double-lined binaries of {place.path.resolve().name}"
    about = {"catalog": catalog.attrs.get("name", ""), "title": title}
    double = sum(float(star["numbers"]["double"] or 0.0) > 0.0 for star in stars)
    facts = [
        ("exposures", f"{counts['Exposures']:,}"),
        ("candidate exposures", f"{found.candidates:,}"),
        ("stars that may be SB2s", f"{len(found) + found.left_out:,}"),
        ("with two velocities", f"{double:,}" if found.table is not None else "not fitted"),
    ]
    told = {
        "title": title,
        "subtitle": f"Catalog {about['catalog']}, {dict(whole.ran).get('Published', '')}",
        "facts": facts,
        "columns": _columns(stars),
        "stars": stars,
        "about_stars": " ".join([_about_stars(found, stars, left_out), *(f"Beware: {words}." for words in stale)]),
        "charts": whole.charts,
        "counts": whole.counts,
        "ran": whole.ran,
        "trust": trust(place.path),
        "foot": f"Written by twinlines {catalog.attrs.get('twinlines', '')}. This file needs no network.",
        # A script ends at the first end tag, wherever it stands.
        "about": json.dumps(about).replace("<", "\\u003c"),
        "css": _part("report.css"),
        "js": _part("report.js"),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(_part("report.html")).render(told)


def _columns(stars: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Columns of which some star has a value."""
    return [(name, words) for name, words in COLUMNS if any(star["numbers"][name] for star in stars)]


def _about_stars(found: Listed, stars: list[dict[str, Any]], left_out: int) -> str:
    parts = ["Stars with a candidate exposure, or with a fit that shows two stars; the surest come first."]
    parts.append("p is the largest median probability of an exposure.")
    if found.fits is None:
        parts.append("No two-star fits are there; 'twinlines binaries fit' and 'twinlines binaries sources' make them.")
    elif found.table is None:
        parts.append("No table of stars is there; 'twinlines binaries sources' makes one.")
    if found.left_out:
        parts.append(f"{found.left_out:,} more stars are not listed here.")
    pages = sum(star["has_page"] for star in stars)
    if pages < len(stars):
        parts.append(f"The first {pages} have a page of their own.")
    if left_out:
        parts.append(f"{left_out} more would have one, but the file would be larger than {MOST_BYTES // 1_000_000} MB.")
    return " ".join(parts)


def _part(name: str) -> str:
    return (resources.files("twinlines.pipeline.report") / "templates" / name).read_text(encoding="utf-8")


def _said(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def _period(period: float, probability: float) -> str:
    """A period, with its probability where another may be the true one."""
    said = _said(period, 4)
    return said if not np.isfinite(period) or probability >= 0.95 else f"{said} ({probability:.0%})"


def _with_error(value: float, error: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:.3f} ± {error:.3f}" if np.isfinite(error) else f"{value:.3f}"
