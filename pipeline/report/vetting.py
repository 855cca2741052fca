"""Verdicts of a person on a survey's stars, as a report saves them: read, checked, and set beside the catalog."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinlines.pipeline.catalog import catalog as catalogs

VERDICTS = ("accept", "reject", "unsure")
"""What a person may say of a star."""


class VettingError(ValueError):
    """A list of verdicts cannot be used."""


@dataclass(frozen=True)
class Vetted:
    """A list of verdicts beside a catalog."""

    stars: tuple[Mapping[str, Any], ...]
    """Of each star: obsid, verdict, comment, catalog by which it was judged, ra, dec."""
    other_catalogs: int
    """Stars that were judged by a report of another catalog than the current one."""

    @property
    def counts(self) -> dict[str, int]:
        """Stars by verdict."""
        counted = Counter(str(star["verdict"]) for star in self.stars)
        return {verdict: counted.get(verdict, 0) for verdict in VERDICTS}

    def with_verdict(self, verdict: str | None) -> tuple[Mapping[str, Any], ...]:
        """Stars of one verdict; None: all."""
        return tuple(star for star in self.stars if verdict in (None, star["verdict"]))

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {"counts": self.counts, "other_catalogs": self.other_catalogs, "stars": [dict(s) for s in self.stars]}


def read_vetted(survey: str | Path, path: str | Path) -> Vetted:
    """Read verdicts that were saved from a report.

    Parameters
    ----------
    survey
        Folder of the survey.
    path
        CSV file with the columns obsid and verdict; comment and catalog, if it has them.

    Raises
    ------
    VettingError
        If the file cannot be read as such, a verdict is none, an obsid stands twice with two verdicts, or is not in the
        catalog; the message names the line.
    CatalogError
        If there is no survey or no catalog.
    """
    source = Path(path)
    catalog = catalogs.open(survey)
    have = catalog["obsid"].values
    order = np.argsort(have, kind="stable")
    ra, dec = catalog["ra"].values, catalog["dec"].values
    current = str(catalog.attrs.get("name", ""))
    stars: dict[int, dict[str, Any]] = {}
    other = 0
    for line, row in _lines(source):
        obsid, verdict = _obsid(source, line, row), (row.get("verdict") or "").strip().lower()
        if verdict not in VERDICTS:
            raise VettingError(f"{source}, line {line}: the verdict is {verdict!r}; give one of {', '.join(VERDICTS)}")
        if obsid in stars and stars[obsid]["verdict"] != verdict:
            raise VettingError(
                f"{source}, line {line}: obsid {obsid} is {verdict}, and {stars[obsid]['verdict']} in an earlier line; "
                "keep one of them"
            )
        place = int(np.searchsorted(have[order], obsid))
        if place == len(have) or have[order[place]] != obsid:
            raise VettingError(f"{source}, line {line}: obsid {obsid} is not in the catalog {current} of {survey}")
        judged = (row.get("catalog") or "").strip()
        other += bool(judged) and judged != current
        first = order[place]
        stars[obsid] = {
            "obsid": obsid,
            "verdict": verdict,
            "comment": (row.get("comment") or "").strip(),
            "catalog": judged,
            "ra": float(ra[first]),
            "dec": float(dec[first]),
        }
    return Vetted(tuple(stars.values()), other)


def _lines(source: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [name.strip().lower() for name in reader.fieldnames or []]
            if missing := [name for name in ("obsid", "verdict") if name not in names]:
                raise VettingError(
                    f"{source} has no column {missing[0]}; its columns are {', '.join(names) or 'none'}; save it from "
                    "a report's page, or give it the columns obsid and verdict"
                )
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise VettingError(f"{source} has several columns {repeated[0]}; keep one of them")
            reader.fieldnames = names
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VettingError(f"{source} cannot be read as CSV: {error}") from error
    for line, row in rows:
        if None in row:  # what csv calls cells beyond the columns
            raise VettingError(f"{source}, line {line}: it has more cells than the {len(names)} columns; quote commas")
    return rows


def _obsid(source: Path, line: int, row: Mapping[str, str]) -> int:
    text = (row.get("obsid") or "").strip()
    if not re.fullmatch("[0-9]{1,18}", text):
        raise VettingError(f"{source}, line {line}: the obsid is {text[:30]!r}; give a whole number")
    return int(text)
