"""The training store: synthesises the pairs of a training set, shard by shard, over a Dask client.

The client holds the serial numbers of the kept draws and no spectra; a worker makes one shard of pairs from them.
While a set is being made it lies, with its markers, in a folder beside its final place, so that the same command goes
on where it was stopped; whole, it moves to its place by one rename.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from dask.utils import format_bytes
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.jobs import engine
from twinlines.pipeline.jobs.engine import Failure
from twinlines.pipeline.jobs.locks import lock
from twinlines.pipeline.jobs.markers import Markers, fingerprint
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import DRAWS, PAIRS, Schema
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.storage import atomic, stores
from twinlines.pipeline.synthesis import spectra
from twinlines.pipeline.synthesis.spectra import Scene
from twinlines.pipeline.training.recipe import Selection, SynthesisError, TrainingSet, select, splits

GROUP = "draws"
"""Group of the store that holds the fate of every draw, of :data:`twinlines.pipeline.schema.DRAWS`."""

STORE = "store.zarr"
"""Name of the store while it is being made."""

BYTES_PER_PAIR = 24_000
"""What a pair takes on the disk, both arms, compressed; measured 20.9 kB, and 22.7 kB where much disturbs it."""


@dataclass(frozen=True)
class Shard:
    """The unit of work: some consecutive pairs."""

    start: int
    """First pair."""
    population: NDArray[np.int8]
    """Number of each pair's population, shape (pair,)."""
    number: NDArray[np.int64]
    """Serial number of each pair's draw, shape (pair,)."""
    key: str
    """Key of the task: a hash of the recipe, the place and the draws."""

    @property
    def stop(self) -> int:
        """Pair after the last."""
        return self.start + len(self.number)

    @property
    def about(self) -> dict[str, Any]:
        """What a failure's file should say of it."""
        return {"start": self.start, "stop": self.stop}

    def __str__(self) -> str:
        return f"pairs {self.start} to {self.stop}"


def shards_of(selection: Selection, digest: str, rows: int) -> list[Shard]:
    """Cut the pairs of a set with this digest into shards of so many rows."""
    shards = []
    for start in range(0, len(selection.number), rows):
        part = slice(start, start + rows)
        population, number = selection.population[part], selection.number[part]
        key = hashlib.sha256(f"{digest}:{start}:".encode() + population.tobytes() + number.tobytes()).hexdigest()
        shards.append(Shard(start, population, number, key))
    return shards


@dataclass(frozen=True)
class SynthesisReport:
    """What making a training set did."""

    store: str
    """Where the pairs are, or will be."""
    n_pairs: int
    """Pairs asked for."""
    n_draws: int
    """Draws that it took."""
    fates: dict[str, int]
    """Number of draws by fate: kept, or why not."""
    digest: str
    """Digest of the provenance."""
    computed: int
    """Shards computed now."""
    skipped: int
    """Shards that had been done before."""
    failed: tuple[Failure, ...]
    """Shards that failed; if there are any, the store is not there yet."""

    @property
    def complete(self) -> bool:
        """Whether the store is there."""
        return not self.failed

    @property
    def kept_fraction(self) -> float:
        """Kept over drawn; the paper keeps about 0.38."""
        return self.fates.get("kept", 0) / self.n_draws

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {
            **asdict(self),
            "failed": [failure.to_json() for failure in self.failed],
            "kept_fraction": self.kept_fraction,
            "complete": self.complete,
        }


def partial_folder(out: Path) -> Path:
    """Where a training set lies while it is being made: beside its place, on the same disk."""
    return out.with_name(f".{out.name}.partial")


def synthesize(
    client: Any,
    training_set: TrainingSet,
    out: Path,
    *,
    shard_rows: int = PAIRS.shard_rows,
    progress: Progress = silent,
) -> SynthesisReport:
    """Make the training store ``out``: one Dask task per shard of pairs, published by one rename when it is whole.

    Stopped or killed, the same call goes on with what is missing. Where the same set is at ``out`` already, nothing is
    done.

    Parameters
    ----------
    client
        A connected ``distributed.Client``; its workers must see ``out`` under the same path.
    training_set
        What to make.
    out
        Folder of the new Zarr store, of :data:`twinlines.pipeline.schema.PAIRS`.
    shard_rows
        Pairs of one task, and of one shard of the store. Their values do not depend on it.
    progress
        Called with (stage, done, total); the stages are "draw" and "synthesize".

    Raises
    ------
    StoreError
        If something else is at ``out``.
    RecipeError
        If another set was begun there.
    LockedError
        If one is being made there now.
    SynthesisError
        If the disk is too small, or the priors give no pairs.
    twinlines.pipeline.jobs.engine.JobError
        If the cluster was lost, or the disk is full.
    """
    schema = _schema(shard_rows)
    if made := made_before(training_set, out):
        return made
    out, digest = Path(out).resolve(), training_set.digest
    folder = partial_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder, "twinlines synthesize"), _swept(folder):
        markers, store = Markers(folder), folder / STORE
        markers.start({"digest": digest, "shard_rows": shard_rows, "provenance": training_set.provenance()})
        selection = select(training_set, progress)
        shards = shards_of(selection, digest, shard_rows)
        missing = [shard for shard in shards if not _is_done(markers, schema, shard)]
        _require_space(folder, sum(len(shard.number) for shard in missing))
        _template(store, schema, training_set, selection)
        failed = _compute(client, training_set, digest, schema, markers, missing, progress)
        if not failed:
            stores.seal(store / GROUP, DRAWS, contents=False)
            stores.seal(store, schema, contents=False)
            store.rename(out)
            atomic.sync_folder(out.parent)
            shutil.rmtree(folder)
    return SynthesisReport(
        store=str(out),
        n_pairs=training_set.n_pairs,
        n_draws=len(selection.fates.fate),
        fates=selection.fates.counts(),
        digest=digest,
        computed=len(missing) - len(failed),
        skipped=len(shards) - len(missing),
        failed=tuple(failed.values()),
    )


def _schema(shard_rows: int) -> Schema:
    """The pairs' schema with shards of so many rows, of two chunks at least."""
    if shard_rows < 2 or shard_rows % 2:
        raise SynthesisError(f"shard_rows is {shard_rows}; give an even number, 2 or more")
    chunk_rows = PAIRS.chunk_rows if shard_rows % PAIRS.chunk_rows == 0 and shard_rows > PAIRS.chunk_rows else 0
    return replace(PAIRS, shard_rows=shard_rows, chunk_rows=chunk_rows or shard_rows // 2)


def _is_done(markers: Markers, schema: Schema, shard: Shard) -> bool:
    files = stores.shard_files(markers.folder / STORE, schema, shard.start)
    return markers.finished(shard.key, files, verify=True)


@contextmanager
def _swept(folder: Path) -> Iterator[None]:
    """Remove the folder if an error comes before there is a store in it: another recipe may then take its place."""
    try:
        yield
    except BaseException:
        if not (folder / STORE).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def made_before(training_set: TrainingSet, out: Path) -> SynthesisReport | None:
    """The report of a training set that is at ``out`` already; None if nothing is there. Needs no cluster.

    Raises
    ------
    StoreError
        If something else is at ``out``.
    """
    out = Path(out).resolve()
    if not out.exists():
        return None
    store, digest = stores.open_store(out, PAIRS), training_set.digest
    if store.attrs.get("digest") != digest:
        raise stores.StoreError(
            f"{out} exists already, and is another training set: its digest is {store.attrs.get('digest')}, not "
            f"{digest}; remove it or choose another name"
        )
    return SynthesisReport(
        store=str(out),
        n_pairs=training_set.n_pairs,
        n_draws=int(store.attrs["n_draws"]),
        fates=dict(store.attrs["fates"]),
        digest=digest,
        computed=0,
        skipped=int(store.attrs["n_shards"]),
        failed=(),
    )


def _require_space(folder: Path, pairs: int) -> None:
    needed, free = pairs * BYTES_PER_PAIR, shutil.disk_usage(folder).free
    if needed > free:
        raise SynthesisError(
            f"{pairs} pairs need about {format_bytes(needed)} in {folder.parent}, where {format_bytes(free)} are left; "
            "free some space, ask for fewer pairs or choose another place"
        )


def _template(store: Path, schema: Schema, training_set: TrainingSet, selection: Selection) -> None:
    """Make the store without its pairs, unless an earlier attempt has."""
    if (store / "zarr.json").exists() and "digest" in zarr.open_group(store, mode="r").attrs:
        return
    shutil.rmtree(store, ignore_errors=True)
    fates = selection.fates.columns()
    stores.create(store, schema, training_set.n_pairs)
    stores.create(store / GROUP, DRAWS, len(selection.fates.fate))
    for name, values in fates.items():
        stores.write_column(store / GROUP, DRAWS, name, values)
    # The digest comes last: a template without it was left half made.
    attrs: dict[str, Any] = {
        "n_draws": len(selection.fates.fate),
        "n_shards": -(-training_set.n_pairs // schema.shard_rows),
        "fates": selection.fates.counts(),
        "provenance": training_set.provenance(),
        "digest": training_set.digest,
    }
    with atomic.naming(store):
        zarr.open_group(store, mode="r+").attrs.update(attrs)


def _compute(
    client: Any,
    training_set: TrainingSet,
    digest: str,
    schema: Schema,
    markers: Markers,
    missing: Sequence[Shard],
    progress: Progress,
) -> dict[str, Failure]:
    total = training_set.n_pairs
    done = total - sum(len(shard.number) for shard in missing)

    def finished(shard: Shard, pairs: int) -> None:
        nonlocal done
        done += pairs
        progress("synthesize", done, total)

    progress("synthesize", done, total)
    tasks = ((shard, training_set, digest, schema, str(markers.folder)) for shard in missing)
    return engine.compute(client, markers, write_pairs, tasks, finished)


@one_thread()
def write_pairs(shard: Shard, training_set: TrainingSet, digest: str, schema: Schema, folder: str) -> int:
    """Synthesise a shard on a worker, write it and then its marker; returns its number of pairs.

    Raises
    ------
    SynthesisError
        If this worker would make other pairs than were asked for.
    """
    if training_set.digest != digest:
        raise SynthesisError(
            f"this worker would make pairs of {training_set.provenance()}, which has not the digest {digest}; install "
            "the same version of twinlines, and put the same tracks and library, where it runs"
        )
    markers, store = Markers(Path(folder)), Path(folder) / STORE
    stores.write_shard(store, schema, shard.start, schema.dataset(columns_of(shard, training_set), len(shard.number)))
    files = stores.shard_files(store, schema, shard.start)
    stores.sync(files)
    markers.mark(shard.key, len(shard.number), fingerprint(files), **shard.about)
    return len(shard.number)


def columns_of(shard: Shard, training_set: TrainingSet) -> dict[str, NDArray[Any]]:
    """Synthesise the pairs of a shard, population by population."""
    tracks, library = Tracks.load(training_set.tracks), Library.load(training_set.library)
    columns: dict[str, NDArray[Any]] = {"split": splits(shard.start, shard.stop, training_set.seed)}
    for code, source in training_set.sources().items():
        rows = np.flatnonzero(shard.population == code)
        if not rows.size:
            continue
        drawn = source.realise(shard.number[rows], tracks, library)
        scene = Scene(training_set.seed, code, training_set.extras, training_set.frame)
        made = spectra.pairs(source.light(library), drawn, scene)
        if rows.size == len(shard.number):
            columns |= made  # no copy: spectra of a shard are most of what a worker has in memory
            continue
        for name, values in made.items():
            whole = columns.setdefault(name, np.empty((len(shard.number), *values.shape[1:]), values.dtype))
            whole[rows] = values
    return columns
