"""Where a table's rows come from: release, weights, parameters, code, rows in and out; for the header of any format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

_KNOWN = {
    "name": ("CATALOG", "name of the catalog"),
    "catalog": ("CATALOG", "name of the catalog"),
    "release": ("RELEASE", "newest release"),
    "releases": ("RELEASES", "releases that the catalog covers"),
    "run": ("RUN", "key of weights, parameters and numerics"),
    "weights_digest": ("WEIGHTS", "digest of the ensemble"),
    "parameters": ("PARAMS", "parameters of the run"),
    "numerics": ("NUMERICS", "numerical versions of the code"),
    "code": ("CODE", "rows by the version that computed them"),
    "twinlines": ("CODEVER", "version of Twinlines that published them"),
    "created": ("CREATED", "when they were published"),
    "made_of": ("MADEOF", "catalog that this one was made of"),
    "zero_points": ("ZEROPTS", "zero points of the velocities"),
    "superseded_rows": ("SUPERSED", "rows that newer releases superseded"),
    "fits": ("FITSTORE", "store of the two-star fits"),
    "fitting": ("FITTING", "how orbits were fitted"),
    "library": ("LIBRARY", "digest of the spectral library"),
    "radius": ("RADIUS", "[arcsec] exposures within it are of one star"),
}
"""Attributes of Datasets that say where they come from: keyword of a FITS header, and what each is."""

_OWN = {"schema", "schema_version", "number", "exposures", "versions"}  # of the store itself


@dataclass(frozen=True)
class Entry:
    """One thing that is said."""

    name: str
    """Name, as a Dataset's attributes have it."""
    keyword: str
    """Keyword of a FITS header; empty: there is none."""
    value: str
    """Value; JSON where it is no text."""
    meaning: str
    """What it is."""


@dataclass(frozen=True)
class Provenance:
    """All that is said, in its order."""

    entries: tuple[Entry, ...]
    """Each thing."""

    @classmethod
    def of(cls, attrs: Mapping[str, Any], *, rows_out: int) -> Provenance:
        """What the attributes of a Dataset say, with the number of rows written and the version that writes them.

        Parameters
        ----------
        attrs
            Attributes; ``rows_in`` is the number of rows that were there to choose from.
        rows_out
            Rows that are written.
        """
        said = dict(attrs)
        if said.get("releases"):
            said = {"release": said["releases"][-1], **said}
        entries = []
        for name in (*(name for name in _KNOWN if name in said), *(name for name in said if name not in _KNOWN)):
            if name not in _OWN and name != "rows_in":
                keyword, meaning = _KNOWN.get(name, ("", name))
                entries.append(Entry(name, keyword, _text(said[name]), meaning))
        writer = f"twinlines {metadata.version('twinlines')}"
        entries += [
            Entry("written_by", "CREATOR", writer, "what wrote this file"),
            Entry("rows_in", "ROWSIN", str(said.get("rows_in", rows_out)), "rows of what the table was made of"),
            Entry("rows_out", "ROWSOUT", str(rows_out), "rows of this table"),
        ]
        return cls(tuple(entries))

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def get(self, name: str) -> str | None:
        """Value of one entry; None if nothing is said."""
        return next((entry.value for entry in self.entries if entry.name == name), None)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
