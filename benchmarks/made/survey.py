"""A survey of any size without its spectra: what workers would write, made at once or by tasks that stand in for them.

With stand-ins, everything that the client does is real, and so are the tasks that it hands out, their markers and the
files that it reads back; they go to the workers by name. Of a release, only columns without pixels are written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import xarray as xr
import zarr
from made.rows import FIBRES, SPECTROGRAPHS, VISITS, keys_of, packed_result, packed_shard

from twinlines.pipeline.ingest import ingestion
from twinlines.pipeline.ingest.filewalk import Batch, FoundFile, ListFile
from twinlines.pipeline.ingest.index import Index, fibre_number
from twinlines.pipeline.ingest.reader import Reading
from twinlines.pipeline.ingest.settling import KNOWN_COLUMNS
from twinlines.pipeline.ingest.tasks import Shard, index_path, read_parts
from twinlines.pipeline.jobs.markers import Markers, fingerprint, fingerprint_of, now
from twinlines.pipeline.schema import EXPOSURES, Schema
from twinlines.pipeline.storage import atomic, stores
from twinlines.pipeline.survey import compute, integrity
from twinlines.pipeline.survey.plan import ShardTask
from twinlines.pipeline.survey.releases import KEY_COLUMNS, STORE, write_about
from twinlines.pipeline.survey.runs import Recipe, SurveyRun, task_key

RECIPE = "recipe.json"


def write_recipe(folder: Path) -> None:
    """Write down the recipe of the runs here: all of it is real. Steps that a user's need no torch for do without."""
    from twinlines.models import checkpoint
    from twinlines.pipeline.spectra.inference import NUMERICS, SHIPPED_WEIGHTS, InferenceParameters

    digest = checkpoint.digest(SHIPPED_WEIGHTS)
    about = [str(SHIPPED_WEIGHTS), digest, InferenceParameters().to_json(), NUMERICS]
    (folder / RECIPE).write_text(json.dumps(about))


def recipe(survey: Path) -> Recipe:
    weights, digest, parameters, numerics = json.loads((survey.parent / RECIPE).read_text())
    return Recipe(Path(weights), digest, parameters, numerics)


def make_release(survey: Path, name: str, rows: int) -> None:
    """Write the columns of a release by which rows are known, as an ingestion leaves them."""
    folder = survey / "releases" / name
    folder.mkdir(parents=True)
    stores.create(folder / STORE, EXPOSURES, rows)
    starts = range(0, rows, EXPOSURES.shard_rows)
    for shard, start in enumerate(starts):
        number = np.arange(start, min(start + EXPOSURES.shard_rows, rows))
        for column, values in keys_of(number, KNOWN_COLUMNS).items():
            path = folder / STORE / column / "c" / str(shard)
            path.parent.mkdir(exist_ok=True)
            kind = EXPOSURES.variables[column].dtype
            path.write_bytes(packed_shard(values, kind, EXPOSURES.chunk_rows, EXPOSURES.shard_rows))
    shards = [fingerprint(stores.shard_files(folder / STORE, EXPOSURES, start)) for start in starts]
    about = {"name": name, "number": 1, "created": now(), "rows": rows, "quarantined": 0}
    write_about(folder, {**about, "checksums": integrity.seal(folder, EXPOSURES.shard_rows, shards)})


def make_results(run: SurveyRun, tasks: Iterable[ShardTask]) -> None:
    """Write the results of a run's tasks, and their markers, of a release of all rows from the first on."""
    for task in tasks:
        data = packed_result(task.start, task.stop)
        run.result_path(task.key).write_bytes(data)
        marker = {"rows": task.rows, **fingerprint_of(data), **_about(task), "twinlines": "made", "finished": now()}
        run.marker_path(task.key).write_text(json.dumps(marker, indent=2))


def indexes(rows: int, files: int = 256) -> Iterator[tuple[int, Index]]:
    """What scans note of a folder of so many rows, batch by batch, each with the number of its first file."""
    for first in range(0, rows // VISITS, files):
        yield first, index_of(first, min(files, rows // VISITS - first))


def index_of(first: int, files: int) -> Index:
    """What a scan notes of some files of :data:`made.rows.VISITS` exposures each."""
    keys = keys_of(np.arange(first * VISITS, (first + files) * VISITS), KNOWN_COLUMNS)
    return Index(
        file=np.repeat(np.arange(files, dtype=np.int32), VISITS),
        obsid=keys["obsid"],
        lmjm=keys["lmjm"].astype(np.int32),
        content_hash=keys["content_hash"],
        fibre=fibre_number(keys["spid"], keys["fiberid"]),
        ra=keys["ra"].astype(np.float32),
        dec=keys["dec"].astype(np.float32),
        kept=np.full(files * VISITS, -1),
        quarantined=(),
        warnings=(),
    )


def path_of(file: int) -> str:
    """Path of a file, as the survey's are; in the order of files."""
    plate, day = file // (FIBRES * SPECTROGRAPHS), file // (FIBRES * SPECTROGRAPHS) // 8
    spid, fiberid = file // FIBRES % SPECTROGRAPHS + 1, file % FIBRES + 1
    plan = f"HD{plate:06d}N{plate % 90:02d}V01"
    return f"{20_000 + day}/{plan}/med-{57_000 + day}-{plan}_sp{spid:02d}-{fiberid:03d}.fits.gz"


def walker(rows: int) -> Callable[..., Iterator[FoundFile]]:
    """What walks a folder of the files of so many rows, a whole number of files."""

    def walk(_folder: Path, _passed_over: object = None) -> Iterator[FoundFile]:
        for file in range(rows // VISITS):
            yield FoundFile(path_of(file), 150_000 + file % 1000, 1_600_000_000_000_000_000 + file)

    return walk


def scan(
    batch: Batch, _folder: Path, listed: ListFile, markers: Markers, _reading: Reading, _keep: bool = False
) -> int:
    """Write the index that a scan of these files would write, and its marker."""
    if listed.paths(batch)[0] != path_of(batch.first):
        raise ValueError(f"{batch} has other files than were made")
    index = index_of(batch.first, batch.count)
    data = index.to_bytes()
    atomic.write_bytes(index_path(markers, batch), data)
    markers.mark(batch.key, len(index), fingerprint_of(data), out_of_reach=0, **batch.about)
    return batch.count


def write_rows(shard: Shard, _folder: Path, store: Path, schema: Schema, markers: Markers) -> int:
    """Write the columns of a shard that have no pixels, and its marker; of a release of all rows of its folder."""
    parts = list(read_parts(markers, shard))
    if parts[0].path != path_of(shard.start // VISITS):
        raise ValueError(f"{shard} begins with {parts[0].path}, so that the release has not all rows of its folder")
    columns = keys_of(np.arange(shard.start, shard.start + shard.rows))
    files = [part.path for part in parts for _ in part.lmjm]
    group = zarr.open_group(store=store, mode="r+", zarr_format=3)
    for name, values in {**columns, "source_file": np.array(files, object)}.items():
        array: Any = group[name]
        array[shard.start : shard.start + shard.rows] = values
    written = fingerprint(stores.shard_files(store, schema, shard.start))
    markers.mark(shard.key, shard.rows, written, **shard.about)
    return shard.rows


def load(_weights: str, _digest: str, _parameters: object, _device: str) -> Callable[[xr.Dataset], xr.Dataset]:
    """What a worker keeps instead of the networks; it is asked for nothing."""
    return _nothing


def _nothing(block: xr.Dataset) -> xr.Dataset:
    return block


def compute_shard(task: ShardTask, _store: str, folder: str, _keeper: str) -> dict[str, Any]:
    """Write a result of a shard, and its marker; of a release of all rows from the first on."""
    run, keys = SurveyRun(Path(folder)), keys_of(np.arange(task.start, task.stop), KEY_COLUMNS)
    if task_key(run.config_key, keys["obsid"], keys["lmjm"], keys["content_hash"]) != task.key:
        raise ValueError(f"{task} has other rows than were made")
    data = packed_result(task.start, task.stop)
    atomic.write_bytes(run.result_path(task.key), data)
    return run.mark(task.key, task.rows, fingerprint_of(data), **_about(task))


def _about(task: ShardTask) -> dict[str, Any]:
    return {**task.about, "seconds": 31.234, "worker": "tcp://127.0.0.1:40000"}


@contextmanager
def without_spectra(rows: int) -> Iterator[None]:
    """Let tasks make up what they would read and compute; the client's own work stays as it is."""
    with ExitStack() as stack:
        stand_ins = (
            (ingestion, "walk", walker(rows)),
            (ingestion, "scan", scan),
            (ingestion, "write_rows", write_rows),
            (compute, "compute_shard", compute_shard),
        )
        for module, name, stand_in in stand_ins:
            stack.enter_context(mock.patch.object(module, name, stand_in))
        yield
