"""The demo: a mock release goes through the whole chain; catalog and binaries are held against the injected truth.

In its folder it leaves the mock release (``release``), the survey with its catalog (``survey``), what is drawn of it
(``figures``), the comparison exposure by exposure (``exposures.ecsv``) and its numbers (``demo.json``). Draws and
prints nothing itself.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distributed import Client

from twinlines.pipeline.binaries.fits.survey import fit
from twinlines.pipeline.binaries.sources.orbits import sample_orbits
from twinlines.pipeline.binaries.sources.solutions import open_orbits
from twinlines.pipeline.binaries.sources.survey import make_sources, open_sources
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.ingest.ingestion import IngestReport, ingest
from twinlines.pipeline.mock.comparison import BinaryComparison, Comparison, compare, compare_binaries
from twinlines.pipeline.mock.release import MockConfig, MockTruth, make_release
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, InferenceParameters
from twinlines.pipeline.survey import compute
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.precision import usual
from twinlines.pipeline.survey.releases import STORE, SurveyError

RELEASE = "mock"
"""Name of the release in the demo's survey."""

_MARK = ".twinlines-demo"
_CONTENTS = ("release", "survey", "figures", "exposures.ecsv", "demo.json")
_SHARDS_PER_WORKER = 3
_LEAST_SHARD = 32


@dataclass(frozen=True)
class DemoResult:
    """What came out of the demo."""

    folder: Path
    """Folder of the demo."""
    truth: MockTruth
    """What was injected."""
    ingested: IngestReport
    """What became of the files."""
    comparison: Comparison
    """Catalog and truth, exposure by exposure."""
    binaries: tuple[BinaryComparison, ...]
    """Stars with two sets of lines, beside the truth, those with the most epochs first."""
    figures: tuple[Path, ...]
    """Pictures, where they were asked for."""
    seconds: dict[str, float]
    """Wall time of each stage, s."""

    @property
    def store(self) -> Path:
        """The release's exposures."""
        return Survey(self.folder / "survey").new_release(RELEASE).target / STORE

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as what :func:`json.dumps` takes."""
        stars = self.comparison.stars()
        verdicts = stars["verdict"].data.tolist()
        return {
            "folder": str(self.folder),
            "injected": self.truth.summary(),
            "ingested": {
                "files": self.ingested.files_seen,
                "exposures": self.ingested.rows,
                "duplicate_exposures": self.ingested.duplicates,
                "quarantined": [{"path": file.path, "reason": file.reason} for file in self.ingested.quarantined],
            },
            "judged_exposures": int(self.comparison.judged.sum()),
            "lost_files": self.comparison.lost,
            "stars": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
            "sb2_exposures": self.comparison.recall(),
            "other_exposures": self.comparison.alarms(),
            "velocities": self.comparison.velocities(),
            "binaries": [asdict(binary) for binary in self.binaries],
            "figures": [str(path) for path in self.figures],
            "seconds": {stage: round(value, 1) for stage, value in self.seconds.items()},
        }


def run_demo(
    client: Client,
    folder: str | Path,
    *,
    stars: int = 48,
    seed: int = 1,
    weights: str | Path | None = None,
    config: MockConfig | None = None,
    parameters: InferenceParameters | None = None,
    draw: Callable[[DemoResult], tuple[Path, ...]] | None = None,
    progress: Progress = silent,
) -> DemoResult:
    """Write a mock release, ingest it, compute its catalog and its binaries, and compare both with the truth.

    Parameters
    ----------
    client
        Client of the cluster that computes.
    folder
        Folder of the demo: new, empty, or that of an earlier demo, which is replaced.
    stars
        Stars of the mock release; some nine exposures each.
    seed
        Seed of the mock release.
    weights
        Folder of an ensemble; by default the one that ships.
    config
        What the mock release looks like.
    parameters
        Parameters of the inference; by default those of a survey's first run.
    draw
        Called when the catalog has been compared; draws what came out and returns the paths of the pictures. None: no
        pictures.
    progress
        Called with (stage, done, total).

    Raises
    ------
    FileExistsError
        If the folder holds something that is not a demo.
    SurveyError
        If a part of the catalog could not be computed.
    """
    weights = Path(weights) if weights is not None else SHIPPED_WEIGHTS
    folder = prepare_folder(Path(folder))
    seconds: dict[str, float] = {}
    clock = time.monotonic()

    def lap(stage: str) -> None:
        nonlocal clock
        seconds[stage] = time.monotonic() - clock
        clock = time.monotonic()

    truth = make_release(folder / "release", stars=stars, seed=seed, config=config, progress=progress)
    lap("mock release")
    workers = max(1, len(client.nthreads()))
    # A demo is a thousandth of a shard of a survey: smaller pieces keep every worker busy.
    pieces = _SHARDS_PER_WORKER * workers
    ingested = ingest(
        client,
        folder / "release",
        folder / "survey",
        RELEASE,
        progress=progress,
        files_per_task=max(1, -(-len(truth.files) // pieces)),
    )
    lap("ingest")
    usually = InferenceParameters(precision=usual(client, Survey.at(folder / "survey")))
    report = compute.run(
        client,
        folder / "survey",
        weights=weights,
        parameters=parameters or usually,
        shard_rows=max(_LEAST_SHARD, -(-ingested.rows // pieces)),
        progress=progress,
    )
    if report.failed:
        first = report.failed[0]
        raise SurveyError(
            f"{len(report.failed)} of {report.shards} shards of the demo failed, the first with: {first.error}; "
            f"its traceback is in {first.file}"
        )
    lap("infer")
    with catalog.open(folder / "survey") as published:
        comparison = compare(truth, published.load())
    comparison.exposures.write(folder / "exposures.ecsv")
    fits = fit(client, folder / "survey", whole_stars=True, progress=progress)
    binaries: tuple[BinaryComparison, ...] = ()
    if fits.store:
        make_sources(folder / "survey")
        sample_orbits(client, folder / "survey", progress=progress)
        table, orbits = open_sources(folder / "survey").load(), open_orbits(folder / "survey").load()
        binaries = compare_binaries(truth, table, orbits)
    lap("binaries")
    result = DemoResult(folder, truth, ingested, comparison, binaries, figures=(), seconds=dict(seconds))
    if draw is not None:
        progress("figures", 0, 1)
        figures = draw(result)
        progress("figures", 1, 1)
        lap("figures")
        result = replace(result, figures=figures, seconds=dict(seconds))
    (folder / "demo.json").write_text(json.dumps(result.to_json(), indent=2) + "\n")
    return result


def prepare_folder(folder: Path) -> Path:
    """Make the folder of a demo; from an earlier demo's folder, remove what that one left, and nothing else.

    Raises
    ------
    FileExistsError
        If the folder is not empty and no demo's.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise FileExistsError(f"{folder} is not empty and no earlier demo; name another folder for the demo")
        for name in _CONTENTS:
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    return folder.resolve()
