"""Plans that refuse: what is predicted, and what is said of it."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from twinlines.cluster.workers import workers_of
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.jobs import sizing
from twinlines.pipeline.jobs.sizing import SizingError
from twinlines.pipeline.lamost import reader
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.survey import compute as survey
from twinlines.pipeline.testing.exposures import random_file
from twinlines.pipeline.testing.survey import ToyInference, ToyParameters, write_release, write_weights

Usage = namedtuple("Usage", "total used free")


def test_needs_follow_the_plan() -> None:
    assert EXPOSURES.shape("flux", 1)[1:] == (2, 4136)
    release, small, shards = sizing.of_ingest(6_000_000), sizing.of_ingest(100), sizing.of_ingest(2 * 4096)
    assert release.memory == shards.memory > small.memory  # no more for a larger survey
    assert 300e9 < release.disk < 400e9
    assert 1.0e9 < release.memory < 1.6e9
    run = sizing.of_run(6_000_000, 6_000_000, 256)
    assert 0.7e9 < run.memory < 1.5e9
    assert sizing.of_run(0, 6_000_000, 256).memory == 0
    assert 1e9 < sizing.of_run(0, 6_000_000, 256).disk < run.disk


def test_too_little_memory_is_refused_before_anything_starts(client: Client, tmp_path: Path) -> None:
    limits = [worker["memory_limit"] for worker in workers_of(client).values()]
    with pytest.raises(
        SizingError, match=r"x: each worker needs about .*, but 2 of 2 may use less \(tcp.*fewer workers"
    ):
        sizing.require(client, tmp_path, sizing.Need("x", max(limits) + 1, 0))
    sizing.require(client, tmp_path, sizing.Need("x", max(limits) + 1, 0), ignore=True)
    sizing.require(client, tmp_path, sizing.Need("x", min(limits), 0))


def test_too_small_a_disk_is_refused_by_run_and_ingest(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_release(tmp_path / "s", "dr1", np.arange(1, 21))
    reader.write(tmp_path / "in.fits", random_file(0, 2))
    weights = write_weights(tmp_path / "w")
    options = {"weights": weights, "parameters": ToyParameters(), "shard_rows": 10, "loader": ToyInference.load}
    with monkeypatch.context() as patch:
        patch.setattr(sizing.shutil, "disk_usage", lambda _: Usage(1, 1, 1000))
        with pytest.raises(
            SizingError, match=r"computing 20 exposures: about .*0.98 kiB are left; free some.*--ignore-plan"
        ):
            survey.run(client, tmp_path / "s", **options)
        assert not [*tmp_path.glob("s/runs/*/done/*")]
        with pytest.raises(SizingError, match=r"writing 2 exposures: about .* are needed in .*s, where 0.98 kiB"):
            ingest(client, tmp_path, tmp_path / "s", "dr2")
        assert ingest(client, tmp_path, tmp_path / "s", "dr2", ignore_plan=True).rows == 2
        assert survey.run(client, tmp_path / "s", ignore_plan=True, **options).complete
    assert survey.run(client, tmp_path / "s", **options).computed == 0
