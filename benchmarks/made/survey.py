"""What workers do for a survey of any size, without its spectra: stands in for reading files and for judging them.

Everything that the client does is real, and so are the tasks that it hands out, their markers and the files that it
reads back. Of a release, only columns without pixels are written. Functions here go to the workers by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from made.rows import FIBRES, SPECTROGRAPHS, VISITS, keys_of, packed_result

from twinlines.pipeline.ingest.filewalk import Batch, FoundFile, ListFile
from twinlines.pipeline.ingest.index import Index, fibre_number
from twinlines.pipeline.ingest.reader import Reading
from twinlines.pipeline.ingest.tasks import Shard, index_path, read_parts
from twinlines.pipeline.jobs.markers import Markers, fingerprint, fingerprint_of
from twinlines.pipeline.schema import Schema
from twinlines.pipeline.storage import atomic, stores
from twinlines.pipeline.survey.plan import ShardTask
from twinlines.pipeline.survey.runs import SurveyRun, task_key


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
    keys = keys_of(np.arange(batch.first * VISITS, (batch.first + batch.count) * VISITS))
    index = Index(
        file=np.repeat(np.arange(batch.count, dtype=np.int32), VISITS),
        obsid=keys["obsid"],
        lmjm=keys["lmjm"].astype(np.int32),
        content_hash=keys["content_hash"],
        fibre=fibre_number(keys["spid"], keys["fiberid"]),
        ra=keys["ra"].astype(np.float32),
        dec=keys["dec"].astype(np.float32),
        kept=np.full(batch.count * VISITS, -1),
        quarantined=(),
        warnings=(),
    )
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
    run, keys = SurveyRun(Path(folder)), keys_of(np.arange(task.start, task.stop))
    if task_key(run.config_key, keys["obsid"], keys["lmjm"], keys["content_hash"]) != task.key:
        raise ValueError(f"{task} has other rows than were made")
    data = packed_result(task.start, task.stop)
    atomic.write_bytes(run.result_path(task.key), data)
    about = {"release": task.release, "start": task.start, "stop": task.stop, "seconds": 1.234, "worker": "made"}
    return run.mark(task.key, task.rows, fingerprint_of(data), **about)
