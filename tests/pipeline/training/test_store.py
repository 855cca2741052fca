"""The training store over a real cluster: what is in it, and that it is never lost, torn or made twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.cluster.workers import workers_of
from twinlines.models import checkpoint
from twinlines.models.ensemble import Ensemble
from twinlines.pipeline.jobs.engine import JobError
from twinlines.pipeline.jobs.locks import LockedError, lock
from twinlines.pipeline.jobs.markers import Markers, RecipeError
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import DRAWS, PAIRS, SchemaError
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.storage import stores
from twinlines.pipeline.synthesis import spectra
from twinlines.pipeline.synthesis.beyond_table1 import CoolGiants, Defects, Extras
from twinlines.pipeline.synthesis.population import KEPT, Priors
from twinlines.pipeline.synthesis.priors import Uniform
from twinlines.pipeline.synthesis.spectra import Scene
from twinlines.pipeline.training import members as training
from twinlines.pipeline.training import store as trainingstore
from twinlines.pipeline.training.members import Training
from twinlines.pipeline.training.recipe import SynthesisError, TrainingSet, splits
from twinlines.pipeline.training.store import GROUP, STORE, SynthesisReport, partial_folder, synthesize

SMALL = TrainingSet(n_pairs=130, seed=3, extras=Extras(CoolGiants(0.1), defects=Defects(0.5)))
ROWS = 26
SHARDS = 5


def _make(client: Client, out: Path, training_set: TrainingSet = SMALL, **options: Any) -> SynthesisReport:
    return synthesize(client, training_set, out, **{"shard_rows": ROWS, **options})


def _files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def report(client: Client, tmp_path_factory: pytest.TempPathFactory) -> SynthesisReport:
    """A set that was made without any disturbance."""
    return _make(client, tmp_path_factory.mktemp("pairs") / "pairs.zarr")


@pytest.fixture(scope="module")
def quiet(report: SynthesisReport) -> Path:
    return Path(report.store)


def test_the_store_holds_what_was_asked_for(report: SynthesisReport, quiet: Path) -> None:
    assert (report.computed, report.skipped, report.complete) == (SHARDS, 0, True)
    with stores.open_store(quiet, PAIRS) as store:
        assert store.sizes["pair"] == 130
        np.testing.assert_array_equal(store["split"], splits(0, 130, seed=3))
        for name in PAIRS.variables:
            if name.startswith("flux_") and "ratio" not in name:
                assert np.isfinite(store[name].values).all(), name
        assert store.attrs["digest"] == report.digest == SMALL.digest
        assert store.attrs["fates"] == report.fates
        assert store.attrs["provenance"]["extras"]["cool_giants"]["fraction"] == 0.1
        assert store.attrs["provenance"]["frame"] == "measured"
        assert np.isfinite(store["frame_B"].values).mean() > 0.8
        codes = store["population"].values
        np.testing.assert_array_equal(store["label"].values.sum(axis=1), (codes != 1).astype(int))
    assert sum(report.fates.values()) == report.n_draws
    assert report.kept_fraction == 130 / report.n_draws
    assert not partial_folder(quiet).exists()


def test_the_store_says_what_became_of_every_draw(report: SynthesisReport, quiet: Path) -> None:
    with stores.open_store(quiet / GROUP, DRAWS) as draws, stores.open_store(quiet, PAIRS) as pairs:
        assert draws.sizes["draw"] == report.n_draws
        for code in SMALL.sources():
            mine = draws["population"].values == code
            kept = draws["number"].values[mine & (draws["fate"].values == KEPT)]
            np.testing.assert_array_equal(kept, pairs["draw"].values[pairs["population"].values == code])


def test_pairs_are_those_of_their_draws(quiet: Path) -> None:
    with stores.open_store(quiet, PAIRS) as store:
        for code, source in SMALL.sources().items():
            rows = np.flatnonzero(store["population"].values == code)
            drawn = source.realise(store["draw"].values[rows], Tracks.load(), Library.load())
            made = spectra.pairs(Library.load(), drawn, Scene(3, code, SMALL.extras, SMALL.frame))
            for name, values in made.items():
                np.testing.assert_allclose(store[name].values[rows], values, rtol=1e-6, atol=0, err_msg=name)


def test_making_it_again_is_idle(client: Client, report: SynthesisReport, quiet: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in quiet.rglob("*")}
    again = _make(client, quiet)
    assert (again.computed, again.skipped, again.complete) == (0, SHARDS, True)
    assert (again.fates, again.n_draws) == (report.fates, report.n_draws)
    assert before == {path: path.stat().st_mtime_ns for path in quiet.rglob("*")}


def test_another_set_does_not_replace_it(client: Client, quiet: Path) -> None:
    with pytest.raises(stores.StoreError, match="exists already, and is another training set"):
        _make(client, quiet, replace(SMALL, seed=4))


def test_the_size_of_shards_changes_no_value(client: Client, quiet: Path, tmp_path: Path) -> None:
    _make(client, tmp_path / "pairs.zarr", shard_rows=PAIRS.shard_rows)
    with stores.open_store(quiet, PAIRS) as one, stores.open_store(tmp_path / "pairs.zarr", PAIRS) as other:
        for name in PAIRS.variables:
            np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=name)


def _stop(client: Client, out: Path, shards: int) -> None:
    """Make a set, and stop when so many shards are done."""

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "synthesize" and done >= shards * ROWS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _make(client, out, progress=stop)
    # Tasks that run when a job is stopped are not killed, and may yet finish: each worker's one thread begins another
    # only then.
    client.gather([client.submit(int, workers=[worker], pure=False) for worker in client.nthreads()])


def test_stopped_it_goes_on(client: Client, quiet: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.zarr"
    _stop(client, out, 2)
    assert not out.exists()
    told: list[tuple[str, int, int]] = []
    resumed = _make(client, out, progress=lambda *step: told.append(step))
    assert resumed.skipped >= 2
    assert resumed.computed + resumed.skipped == SHARDS
    assert told[-1] == ("synthesize", 130, 130)
    assert _files(out) == _files(quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.zarr"]


_SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.pipeline.training.store import synthesize
from test_store import ROWS, SMALL
if __name__ == "__main__":
    with launch(Local(n_workers=1)) as client:
        synthesize(client, SMALL, Path({out!r}), shard_rows=ROWS)
"""


def test_killed_it_goes_on(client: Client, quiet: Path, tmp_path: Path) -> None:
    out, script = tmp_path / "pairs.zarr", tmp_path / "script.py"
    script.write_text(_SCRIPT.format(tests=str(Path(__file__).parent), out=str(out)))
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    done = partial_folder(out) / "done"
    deadline = time.monotonic() + 120
    while len(list(done.glob("*.json"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _wait_for_silence(done)
    resumed = _make(client, out)
    assert 2 <= resumed.skipped < SHARDS
    assert resumed.computed == SHARDS - resumed.skipped
    assert _files(out) == _files(quiet)


def _wait_for_silence(folder: Path) -> None:
    """Wait until orphaned workers, which notice by and by that their scheduler is gone, have stopped writing."""
    before = -1
    while (now := len(list(folder.glob("*")))) != before:
        before = now
        time.sleep(1.0)


@pytest.mark.slow  # the survey's run, by the same means, is tried like this in every suite
def test_killed_workers_cost_a_retry(quiet: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.zarr"
    with launch(Local(n_workers=2)) as own:
        victims = {info["name"]: own.run(os.getpid)[address] for address, info in workers_of(own).items()}

        def kill(stage: str, done: int, total: int) -> None:
            if stage == "synthesize" and done and victims:
                os.kill(victims.popitem()[1], signal.SIGKILL)

        assert _make(own, out, progress=kill).complete
    assert not victims
    assert _files(out) == _files(quiet)


def test_a_damaged_shard_is_made_again(client: Client, quiet: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.zarr"
    _stop(client, out, 3)
    whole = sorted((partial_folder(out) / "done").glob("*.json"))
    place = json.loads(whole[0].read_text())["start"] // ROWS
    damaged = partial_folder(out) / STORE / "flux_B" / "c" / str(place) / "0" / "0"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    resumed = _make(client, out)
    assert resumed.skipped == len(whole) - 1
    assert _files(out) == _files(quiet)


def test_a_half_made_template_is_made_again(client: Client, quiet: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.zarr"
    _stop(client, out, 0)
    metadata = partial_folder(out) / STORE / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"digest"', '"gisted"'))
    assert _make(client, out).complete
    assert _files(out) == _files(quiet)


def test_two_at_once_are_refused(client: Client, tmp_path: Path) -> None:
    out = tmp_path / "pairs.zarr"
    partial_folder(out).mkdir()
    with lock(partial_folder(out), "test"), pytest.raises(LockedError, match="in use by 'test'"):
        _make(client, out)


def test_another_set_in_the_making_is_refused(client: Client, tmp_path: Path) -> None:
    out = tmp_path / "pairs.zarr"
    _stop(client, out, 0)
    with pytest.raises(RecipeError, match=r"another recipe: digest is .*provenance.seed is 3, asked for is 9"):
        _make(client, out, replace(SMALL, seed=9))
    with pytest.raises(RecipeError, match="shard_rows is 26, asked for is 64"):
        _make(client, out, shard_rows=64)


def test_a_shard_that_fails_keeps_the_others(
    client: Client, quiet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "pairs.zarr"
    blocked = partial_folder(out) / STORE / "flux_R" / "c" / "1"

    def block(stage: str, done: int, total: int) -> None:
        if stage == "synthesize" and not blocked.exists():
            blocked.parent.mkdir(parents=True)
            blocked.write_text("no folder")

    broken = _make(client, out, progress=block)
    assert not broken.complete
    assert (broken.computed, len(broken.failed)) == (SHARDS - 1, 1)
    assert broken.failed[0].piece == "pairs 26 to 52"
    assert Path(broken.failed[0].file).exists()
    assert not out.exists()
    blocked.unlink()
    assert _make(client, out).computed == 1
    assert _files(out) == _files(quiet)


def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(client: Client, quiet: Path, small_disk: Path) -> None:
    out, filler = small_disk / "pairs.zarr", small_disk / "filler"

    def fill(stage: str, done: int, total: int) -> None:
        if stage == "synthesize" and done >= ROWS and not filler.exists():
            # The workers write at the same time: to the last byte that there is.
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass

    with pytest.raises(JobError, match=r"pairs \d+ to \d+: .*No space left.*free some space"):
        _make(client, out, progress=fill)
    kept = len(list((partial_folder(out) / "done").glob("*.json")))
    assert kept >= 1
    filler.unlink()
    resumed = _make(client, out)
    assert resumed.skipped >= kept
    assert resumed.complete
    assert _files(out) == _files(quiet)


def test_too_small_a_disk_is_refused_before_anything_is_made(client: Client, small_disk: Path) -> None:
    with pytest.raises(SynthesisError, match=r"6000 pairs need about .* MiB in .*disk, where .* MiB are left; free"):
        _make(client, small_disk / "pairs.zarr", replace(SMALL, n_pairs=6000), shard_rows=PAIRS.shard_rows)


def test_a_worker_that_would_make_other_pairs_is_refused(tmp_path: Path) -> None:
    markers = Markers(tmp_path)
    shard = trainingstore.Shard(0, np.zeros(2, np.int8), np.arange(2), "k")
    with pytest.raises(SynthesisError, match="install the same version of twinlines"):
        trainingstore.write_pairs(shard, SMALL, "another digest", PAIRS, str(markers.folder))


def test_an_attempt_that_made_nothing_leaves_nothing(client: Client, tmp_path: Path) -> None:
    impossible = replace(SMALL, priors=Priors(feh=Uniform(0.4, 0.5)))
    with pytest.raises(SynthesisError, match="became pairs"):
        _make(client, tmp_path / "pairs.zarr", impossible)
    assert not [*tmp_path.iterdir()]


def test_odd_shards_are_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(SynthesisError, match="shard_rows is 7; give an even number"):
        _make(client, tmp_path / "pairs.zarr", shard_rows=7)


def test_members_are_trained_as_tasks_and_make_an_ensemble(client: Client, quiet: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    one = Training(members=1, epochs=1)
    metrics = training.train(client, quiet, tmp_path / "w", one, progress=lambda *step: told.append(step))
    assert sorted(metrics) == ["member_1"]
    assert told == [("train", 0, 1), ("train", 1, 1)]
    ensemble = Ensemble.load(tmp_path / "w")
    assert ensemble.penalties == (8, 16, 32)
    before = checkpoint.digest(tmp_path / "w")
    assert training.train(client, quiet, tmp_path / "w", one) == metrics
    assert checkpoint.digest(tmp_path / "w") == before


def test_training_on_something_else_is_one_clear_error(client: Client, tmp_path: Path) -> None:
    with pytest.raises(stores.StoreError, match="does not exist"):
        training.train(client, tmp_path / "none.zarr", tmp_path / "w")
    other = tmp_path / "other.zarr"
    stores.create(other, PAIRS, 1)
    (other / "zarr.json").write_text((other / "zarr.json").read_text().replace('"pairs"', '"catalog"'))
    with pytest.raises(SchemaError, match="'catalog'"):
        training.train(client, other, tmp_path / "w")
