"""A survey's catalog with intrinsic colours: a new catalog with ``bprp0``, which becomes the current one.

What was current stays as it was. The name ends in a hash of all that decides the colours, so that nothing is published
twice. Zero points that the current catalog has go with it, and so does their table.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.grouping import NO_STAR
from twinlines.pipeline.binaries.zeropoints.references import digest_of
from twinlines.pipeline.jobs.markers import now
from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.storage import stores
from twinlines.pipeline.storage.inventory import ATTRIBUTE
from twinlines.pipeline.survey.folder import SUFFIX, Survey
from twinlines.pipeline.survey.publication import put
from twinlines.pipeline.validation.colours.diagram import Diagram
from twinlines.pipeline.validation.observed import ValidationError

NUMERICS = 1
"""Raised with every change by which colours of equal data differ."""

COLOURS = "colours"
"""Attribute of a catalog that says where its colours come from."""

_BYTES_PER_ROW = 300  # of a catalog, as measured for predictions
_KEY_DIGITS = 8


@dataclass(frozen=True)
class PublishedColours:
    """A catalog with colours."""

    catalog: Path
    """Its folder; it is the current one."""
    new: bool
    """Whether it was made now; False: the same had been made before."""
    exposures: int
    """Exposures that have a colour."""
    rows: int
    """Exposures of the catalog."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {**vars(self), "catalog": str(self.catalog)}


def publish(survey: str | Path, result: Diagram, name: str) -> PublishedColours:
    """Publish a survey's current catalog with the colours of a diagram.

    Parameters
    ----------
    survey
        Folder of the survey.
    result
        Colours of its stars.
    name
        Name of the catalog that they were found for: it must be the current one still.

    Raises
    ------
    ValidationError
        If another catalog is current, it is damaged, or the disk is too small.
    twinlines.pipeline.jobs.locks.LockedError
        If a run is at work on the survey.
    """
    place = Survey.at(Path(survey))
    with place.run_lock("twinlines validate cmd --publish"):
        current = place.current
        if current is None or current.name != name:
            raise ValidationError(
                f"the colours are of the catalog {name}, but the current one is {current.name if current else 'none'}; "
                "give the command again, without --release"
            )
        about = place.about_catalog(name)
        before = about.get(COLOURS, {})
        observed = result.observed
        colour = np.where(
            observed.star != NO_STAR, result.colour[np.where(observed.star != NO_STAR, observed.star, 0)], np.nan
        ).astype(np.float32)
        known = int(np.isfinite(colour).sum())
        provenance = _provenance(result, colour)
        if before.get("key") == provenance["key"]:
            return PublishedColours(current, False, known, len(colour))
        made_of = str(about.get("made_of", name))
        stem = name.removesuffix(SUFFIX).removesuffix(f"-ci{before.get('key', '')}")
        target = place.catalog(f"{stem}-ci{provenance['key']}{SUFFIX}")
        new = not target.exists() or bool(stores.damaged(target))
        if new:
            _write(place, current, target, colour, {**about, COLOURS: provenance, "made_of": made_of})
        _keep_zero_points(place, current.name, target.name)
        place.make_current(target.name)
    return PublishedColours(target, new, known, len(colour))


def _provenance(result: Diagram, colour: NDArray[np.float32]) -> dict[str, Any]:
    decided = {
        "photometry": {"sha256": digest_of(result.table.path), "columns": dict(result.table.columns)},
        "extinction": result.extinction.words,
        "stars": int(np.isfinite(result.colour).sum()),
        "values": hashlib.sha256(colour.tobytes()).hexdigest(),
        "numerics": NUMERICS,
    }
    text = json.dumps(decided, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return {**decided, "file": result.table.path.name, "key": hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]}


def _write(place: Survey, current: Path, target: Path, colour: NDArray[np.float32], about: Mapping[str, Any]) -> None:
    lost = stores.damaged(current)  # all of its values go into the new one
    if lost:
        raise ValidationError(
            f"the catalog {current} is damaged: {'; '.join(lost)}; 'twinlines run --survey {place}' publishes it again"
        )
    free = shutil.disk_usage(place.path).free
    if free < _BYTES_PER_ROW * len(colour):
        raise ValidationError(
            f"a catalog of {len(colour)} exposures takes about {_BYTES_PER_ROW * len(colour) >> 20} MB, but "
            f"{free >> 20} MB are left in {place}; free some space"
        )
    attrs = {key: value for key, value in about.items() if key != ATTRIBUTE}
    attrs |= {
        "name": target.name,
        "number": place.next_catalog_number,
        "created": now(),
        "schema_version": CATALOG.version,
    }
    dataset = stores.open_store(current, CATALOG)

    def write(aside: Path) -> None:
        stores.create(aside, CATALOG, len(colour), attrs)
        for column, variable in CATALOG.variables.items():
            values = colour if column == "bprp0" else dataset[column].values
            stores.write_column(aside, CATALOG, column, values.astype(object) if variable.dtype == "str" else values)

    put(target, CATALOG, write)


def _keep_zero_points(place: Survey, before: str, after: str) -> None:
    """Let the zero points of a catalog be found under the name of the one that was made of it."""
    table = place.zero_points(before)
    if table.exists() and not place.zero_points(after).exists():
        aside = table.with_name(f".{after}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(table, aside)
        aside.rename(place.zero_points(after))
