"""A survey's catalog with velocities on one scale: zero points computed from it, and a new catalog published.

The current catalog is read a few columns at a time; the zero points appear in ``zeropoints/<name>.zarr``, then the
catalog under the same name, with ``rv_abs_*`` and ``rv_abs_err_*``, then ``CURRENT`` names it. What was current stays
as it was. The name ends in a hash of all that decides zero points, so that nothing is computed twice.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.grouping import group
from twinlines.pipeline.binaries.zeropoints.references import ReferenceColumns, References, digest_of, read
from twinlines.pipeline.binaries.zeropoints.units import (
    Velocities,
    ZeroPointConfig,
    ZeroPointError,
    ZeroPoints,
    summary,
    zero_points,
)
from twinlines.pipeline.jobs.markers import now
from twinlines.pipeline.schema import CATALOG, ZERO_POINTS, Quality
from twinlines.pipeline.storage import stores
from twinlines.pipeline.storage.inventory import ATTRIBUTE
from twinlines.pipeline.survey.folder import SUFFIX, Survey
from twinlines.pipeline.survey.publication import put, sweep, write_index
from twinlines.pipeline.usertables.matching import By
from twinlines.pipeline.usertables.quantities import is_usual

NUMERICS = 1
"""Raised with every change by which zero points of equal data differ."""

LEFT_OUT = Quality.AMBIGUOUS_VELOCITY
"""Bits of velocities that take no part in finding zero points; they get the unit's all the same."""

_OPTIONS = ("least_stars", "floor", "radius")  # that the command has, too
_KEY_DIGITS = 8
_BYTES_PER_ROW = 300  # of a catalog, as measured for predictions
_COLUMNS = tuple(f"rv_abs{what}_{arm}" for arm in ARM_NAMES for what in ("", "_err"))


@dataclass(frozen=True)
class CalibrationReport:
    """What became of a survey's velocities."""

    catalog: Path
    """The catalog with ``rv_abs_*``, the current one."""
    table: Path
    """The zero points: a store of :data:`twinlines.pipeline.schema.ZERO_POINTS`."""
    made_of: str
    """Name of the catalog that it was made of."""
    new: bool
    """Whether it was made now; False: the same had been made before."""
    rows: int
    """Exposures of the catalog."""
    calibrated: Mapping[str, int]
    """Exposures that have an ``rv_abs``, by arm."""
    reference: Mapping[str, Any] | None
    """Where references come from, how they were read, how many of the catalog's exposures have one; None: none."""
    zero_points: Mapping[str, Any]
    """Number of units, by arm and reason, and their medians; see :meth:`.ZeroPoints.to_json`."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {**vars(self), "catalog": str(self.catalog), "table": str(self.table)}


@dataclass(frozen=True)
class ReferenceSource:
    """A table of references, and how it is to be read."""

    path: Path
    """The file."""
    columns: ReferenceColumns = field(default_factory=ReferenceColumns)
    """Names of its columns, where they are not the usual ones."""
    by: By | None = None
    """How stars are matched; None: by position, if it has any."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object of what decides the references; where the file lies does not."""
        return {"sha256": digest_of(self.path), "columns": vars(self.columns), "by": self.by}


def calibrate(
    survey: Path, reference: ReferenceSource | None = None, config: ZeroPointConfig | None = None
) -> CalibrationReport:
    """Compute zero points of a survey's current catalog, and publish it anew with calibrated velocities.

    Parameters
    ----------
    survey
        Folder of the survey.
    reference
        Reference velocities; None: zero points come from repeated stars alone, and are relative to each other.
    config
        How zero points are computed.

    Raises
    ------
    ZeroPointError
        If there is no catalog, it is empty or damaged, references do not fit, or no unit has enough stars.
    twinlines.pipeline.jobs.locks.LockedError
        If a run is at work on the survey.
    """
    config, place = config or ZeroPointConfig(), Survey.at(survey)
    if not place.path.is_dir():
        raise ZeroPointError(f"there is no survey at {place}")
    with place.run_lock("twinlines zeropoints"):
        current = place.current
        if current is None or not current.exists():
            raise ZeroPointError(f"the survey {place} has no catalog; 'twinlines run --survey {place}' publishes one")
        about = place.about_catalog(current.name)
        base = str(about.get("made_of", current.name))
        decided = {
            "catalog": base,
            **{name: about.get(name) for name in ("releases", "run", "exposures")},
            "config": config.to_json(),
            "reference": reference.to_json() if reference else None,
            "numerics": NUMERICS,
        }
        if "colours" in about:  # which are to be in the new catalog, too
            decided["colours"] = about["colours"]["key"]
        name = f"{base.removesuffix(SUFFIX)}-zp{_hash(decided)}{SUFFIX}"
        target, table = place.catalog(name), place.zero_points(name)
        new = not (_whole(target) and _whole(table))
        if new:
            _make(place, current, target, table, base, reference, config)
        write_index(place, name)
        place.make_current(name)
        return _report(place, name, base, new)


def open_zero_points(survey: str | Path, name: str | None = None) -> xr.Dataset:
    """Open the zero points of a survey's catalog, lazily: rows are units, by rising time.

    Parameters
    ----------
    survey
        Folder of the survey.
    name
        Name of the catalog; by default the current one's.

    Raises
    ------
    ZeroPointError
        If that catalog has none.
    """
    place = Survey(Path(survey))
    current = place.current
    name = name or (current.name if current else "")
    if not name or not place.zero_points(name).exists():
        raise ZeroPointError(
            f"the catalog {name or '(none)'} of {survey} has no zero points; 'twinlines zeropoints --survey {survey}' "
            "computes them"
        )
    return stores.open_store(place.zero_points(name), ZERO_POINTS)


def zero_points_of(survey: str | Path, catalog: xr.Dataset) -> xr.Dataset | None:
    """Zero points of a catalog of a survey that was opened, in memory; None: it has none.

    Raises
    ------
    ZeroPointError
        If the catalog has some, and their table is gone.
    """
    if "zero_points" not in catalog.attrs:
        return None
    return open_zero_points(survey, str(catalog.attrs["name"])).load()


def table_in_force(survey: str | Path) -> str:
    """Name of the table of zero points that the current catalog is made with; "": it is made with none."""
    place = Survey(Path(survey))
    current = place.current
    said = {} if current is None else place.about_catalog(current.name)
    return Path(said["zero_points"]["table"]).name if "zero_points" in said else ""


def command_again(survey: str | Path) -> str | None:
    """The command that computes zero points as the last time, if the current catalog has none and an earlier one has.

    What a run publishes has none: other stars, and other exposures of them, make others.
    """
    place = Survey(Path(survey))
    current = place.current
    if current is None or "zero_points" in place.about_catalog(current.name):
        return None
    about = [place.about_catalog(name) for name in place.catalogs]
    earlier = [said for said in about if "zero_points" in said]
    if not earlier:
        return None
    last = max(earlier, key=lambda said: int(said.get("number", 0)))["zero_points"]
    options = [f"--{name.replace('_', '-')} {value}" for name, value in last["config"].items() if name in _OPTIONS]
    options = [option for option in options if option not in _usual_options()]
    reference = last.get("reference")
    if reference:
        named = [
            f"--{what}-column {shlex.quote(name)}"
            for what, name in reference["columns"].items()
            if not is_usual(what, name)
        ]
        lies = shlex.quote(reference.get("path", reference["file"]))
        options = [f"--reference {lies}", f"--match {reference['by']}", *sorted(named), *options]
    return " ".join([f"twinlines zeropoints --survey {shlex.quote(str(survey))}", *options])


def _usual_options() -> set[str]:
    return {f"--{name.replace('_', '-')} {value}" for name, value in ZeroPointConfig().to_json().items()}


def _hash(decided: Mapping[str, Any]) -> str:
    text = json.dumps(decided, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def _whole(store: Path) -> bool:
    return store.exists() and not stores.damaged(store)


def _make(
    place: Survey,
    current: Path,
    target: Path,
    table: Path,
    base: str,
    reference: ReferenceSource | None,
    config: ZeroPointConfig,
) -> None:
    """Compute, and write the zero points, then the catalog."""
    lost = stores.damaged(current)  # a new catalog is made of its values: all of them are read anyway
    if lost:
        raise ZeroPointError(
            f"the catalog {current} is damaged: {'; '.join(lost)}; 'twinlines run --survey {place}' publishes it again"
        )
    dataset = stores.open_store(current, CATALOG)
    rows = int(dataset.sizes[CATALOG.row])
    if rows == 0:
        raise ZeroPointError(f"the catalog {current} has no exposure; there is nothing to calibrate")
    free = shutil.disk_usage(place.path).free
    if free < _BYTES_PER_ROW * rows:
        raise ZeroPointError(
            f"a catalog of {rows} exposures takes about {_BYTES_PER_ROW * rows >> 20} MB, but {free >> 20} MB are left "
            f"in {place}; free some space"
        )
    velocities, said = _velocities(dataset, reference, config)
    result = zero_points(velocities, config)
    provenance = {
        "made_of": base,
        "reference": said,
        "config": config.to_json(),
        "numerics": NUMERICS,
        "table": str(table.relative_to(place.path)),
        "results": result.to_json(),
    }
    for folder in (target.parent, table.parent):
        folder.mkdir(exist_ok=True)
        sweep(folder)
    put(table, ZERO_POINTS, lambda aside: _write_table(aside, result, provenance))
    attrs = {name: value for name, value in place.about_catalog(current.name).items() if name != ATTRIBUTE}
    attrs |= {"name": target.name, "number": place.next_catalog_number, "created": now()}
    attrs |= {"made_of": base, "zero_points": provenance, "schema_version": CATALOG.version}
    put(target, CATALOG, lambda aside: _write_catalog(aside, dataset, result, attrs))


def _velocities(
    dataset: xr.Dataset, reference: ReferenceSource | None, config: ZeroPointConfig
) -> tuple[Velocities, dict[str, Any] | None]:
    """What zero points are made of, a column at a time, and what is to be said of the references."""
    ra, dec = dataset["ra"].values, dataset["dec"].values
    velocity = np.stack([_usable(dataset, arm) for arm in ARM_NAMES], axis=1)
    error = np.stack([dataset[f"rv_obs_err_{arm}"].values for arm in ARM_NAMES], axis=1)
    known, known_error, said = None, None, None
    if reference is not None:
        stars = read(reference.path, reference.columns, reference.by)
        match = stars.match(dataset["obsid"].values, ra, dec, config.radius)
        known, known_error = (_taken(values, match) for values in (stars.velocity, stars.error))
        said = {**stars.to_json(), "path": str(Path(reference.path).resolve()), **_matched(stars, match)}
    velocities = Velocities(
        spid=dataset["spid"].values,
        lmjm=dataset["lmjm"].values,
        star=group(ra, dec, radius=config.radius),
        velocity=velocity,
        error=error,
        reference=known,
        reference_error=known_error,
    )
    return velocities, said


def _usable(dataset: xr.Dataset, arm: str) -> NDArray[np.float32]:
    doubtful = (dataset[f"quality_{arm}"].values & int(LEFT_OUT)) > 0
    return np.where(doubtful, np.float32(np.nan), dataset[f"rv_obs_{arm}"].values)


def _taken(values: NDArray[np.float64], match: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.where(match >= 0, values[match], np.nan).astype(np.float32)


def _matched(stars: References, match: NDArray[np.int64]) -> dict[str, int]:
    return {
        "stars_matched": len(np.unique(match[match >= 0])),
        "exposures_matched": int(np.sum(match >= 0)),
        "stars_elsewhere": len(stars.velocity) - len(np.unique(match[match >= 0])),
    }


def _write_table(path: Path, result: ZeroPoints, provenance: Mapping[str, Any]) -> None:
    stores.create(path, ZERO_POINTS, len(result.spid), provenance)
    for name in ZERO_POINTS.variables:
        stores.write_column(path, ZERO_POINTS, name, getattr(result, name))


def _write_catalog(path: Path, dataset: xr.Dataset, result: ZeroPoints, attrs: Mapping[str, Any]) -> None:
    stores.create(path, CATALOG, int(dataset.sizes[CATALOG.row]), attrs)
    for name, variable in CATALOG.variables.items():
        if name not in _COLUMNS:
            values = dataset[name].values
            stores.write_column(path, CATALOG, name, values.astype(object) if variable.dtype == "str" else values)
    for at, arm in enumerate(ARM_NAMES):
        zero, error = (values[:, at][result.unit] for values in (result.zero_point, result.error))
        stores.write_column(path, CATALOG, f"rv_abs_{arm}", dataset[f"rv_obs_{arm}"].values + zero)
        total = np.hypot(dataset[f"rv_obs_err_{arm}"].values, error)
        stores.write_column(path, CATALOG, f"rv_abs_err_{arm}", total)


def _report(place: Survey, name: str, base: str, new: bool) -> CalibrationReport:
    """What the stores say of themselves, whether they were made now or before."""
    said = place.about_catalog(name)["zero_points"]
    columns = stores.read_columns(place.catalog(name), [f"rv_abs_{arm}" for arm in ARM_NAMES])
    table = stores.read_columns(place.zero_points(name), ("zero_point", "error", "reason"))
    return CalibrationReport(
        catalog=place.catalog(name),
        table=place.zero_points(name),
        made_of=base,
        new=new,
        rows=len(columns[f"rv_abs_{ARM_NAMES[0]}"]),
        calibrated={arm: int(np.isfinite(columns[f"rv_abs_{arm}"]).sum()) for arm in ARM_NAMES},
        reference=said["reference"],
        zero_points={**said["results"], **summary(*table.values())},
    )
