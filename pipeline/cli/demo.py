"""The demo: a mock release goes through the whole chain, and the catalog is held against the injected truth.

In its folder it leaves the mock release (``release``), the survey with its catalog (``survey``), figures
(``figures``), the comparison exposure by exposure (``exposures.ecsv``) and its numbers (``demo.json``).
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from distributed import Client
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as RichTable

from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.figures import demo
from twinlines.pipeline.figures.demo import Epoch
from twinlines.pipeline.ingest.ingestion import IngestReport, ingest
from twinlines.pipeline.mock.comparison import Comparison, compare
from twinlines.pipeline.mock.release import MockConfig, MockTruth, make_release
from twinlines.pipeline.mock.stars import SB2
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.spectra import preprocess
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, ArmSpectra, InferenceParameters
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import compute as survey_module
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import STORE, SurveyError

RELEASE = "mock"
"""Name of the release in the demo's survey."""

_MARK = ".twinlines-demo"
_CONTENTS = ("release", "survey", "figures", "exposures.ecsv", "demo.json")
_SHARDS_PER_WORKER = 3
_LEAST_SHARD = 32
_EPOCHS = 5  # of the star whose spectra are drawn
_STAR_NUMBERS = {
    "Teff (K)": ("teff1", ".0f"),
    "q": ("q", ".2f"),
    "L2/L1 red": ("light_ratio_R", ".2f"),
    "P (d)": ("period", ".1f"),
    "max |Δv| (km/s)": ("delta_v", ".0f"),
    "S/N B": ("snr_B", ".0f"),
    "S/N R": ("snr_R", ".0f"),
    "p50 B": ("p50_B", ".2f"),
    "p50 R": ("p50_R", ".2f"),
}
_STAR_TITLES = ("star", "kind", *_STAR_NUMBERS, "candidates", "verdict")


@dataclass(frozen=True)
class DemoResult:
    """What the demo found."""

    folder: Path
    """Folder of the demo."""
    truth: MockTruth
    """What was injected."""
    ingested: IngestReport
    """What became of the files."""
    comparison: Comparison
    """Catalog and truth, exposure by exposure."""
    figures: tuple[Path, ...]
    """Pictures."""
    seconds: dict[str, float]
    """Wall time of each stage, s."""

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
                "quarantined": [{"path": q.path, "reason": q.reason} for q in self.ingested.quarantined],
            },
            "judged_exposures": int(self.comparison.judged.sum()),
            "lost_files": self.comparison.lost,
            "stars": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
            "sb2_exposures": self.comparison.recall(),
            "other_exposures": self.comparison.alarms(),
            "velocities": self.comparison.velocities(),
            "figures": [str(path) for path in self.figures],
            "seconds": {stage: round(value, 1) for stage, value in self.seconds.items()},
        }

    def show(self, console: Console) -> None:
        """Print the candidates against the truth, and what the numbers come to."""
        console.print(self._star_table())
        numbers = self.to_json()
        summary = RichTable(title="Exposures judged in both arms", header_style="bold")
        for column in ("", "exposures", "candidates (p0 > 0.5)", "p50 > 0.5"):
            summary.add_column(column, justify="right" if column else "left")
        for row in numbers["sb2_exposures"]:
            summary.add_row(f"SB2, |Δv| {row['separation_kms']} km/s", *_counts(row))
        for row in numbers["other_exposures"]:
            summary.add_row(str(row["kind"]), *_counts(row))
        console.print(summary)
        for name, values in numbers["velocities"].items():
            if values["exposures"]:
                console.print(
                    f"{name} velocities of {values['exposures']} exposures of one visible star against the truth: "
                    f"median {values['median_kms']:+.2f}, scatter {values['scatter_kms']:.2f} km/s, "
                    f"{values['scatter_over_error']:.2f} times the errors",
                    highlight=False,
                )
        self.ingested.show(console)
        lost = self.comparison.lost
        console.print(
            f"lost: {', '.join(lost)}" if lost else "no exposure of a readable file was lost", highlight=False
        )
        for path in self.figures:
            console.print(f"figure: {path}", highlight=False, soft_wrap=True)
        spent = ", ".join(f"{stage} {value:.0f} s" for stage, value in self.seconds.items())
        console.print(f"time: {spent}", highlight=False)

    def _star_table(self) -> RichTable:
        """Every double-lined star and every star with a candidate; the rest is one line."""
        stars = self.comparison.stars()
        interesting = (stars["kind"] == SB2) | (stars["candidates"] > 0)
        table = RichTable(title="Candidates against the injected truth", header_style="bold")
        for title in _STAR_TITLES:
            table.add_column(title, justify="left" if title in ("kind", "verdict") else "right")
        styles = {"found": "green", "missed": "yellow", "false alarm": "red"}
        for row in stars[interesting][np.lexsort((-stars["delta_v"][interesting], stars["kind"][interesting]))]:
            table.add_row(
                str(row["star"]),
                str(row["kind"]),
                *(format(row[name], spec) if np.isfinite(row[name]) else "" for name, spec in _STAR_NUMBERS.values()),
                f"{row['candidates']} of {row['exposures']}",
                str(row["verdict"]),
                style=styles.get(str(row["verdict"])),
            )
        rest = stars[~interesting]
        quiet = int((rest["verdict"] == "rightly single").sum())
        table.caption = f"and {quiet} other stars without a candidate, rightly; {len(rest) - quiet} could not be judged"
        return table


def _counts(row: dict[str, Any]) -> tuple[str, str, str]:
    return str(row["exposures"]), str(row["candidates"]), str(row["median_above_half"])


def run_demo(
    client: Client,
    folder: str | Path,
    *,
    stars: int = 48,
    seed: int = 1,
    weights: str | Path | None = None,
    config: MockConfig | None = None,
    parameters: InferenceParameters | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Write a mock release, ingest it, compute its catalog, and compare that with the truth.

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
        Parameters of the inference.
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
    told = progress or silent
    seconds: dict[str, float] = {}
    clock = time.monotonic()

    def lap(stage: str) -> None:
        nonlocal clock
        seconds[stage] = time.monotonic() - clock
        clock = time.monotonic()

    truth = make_release(folder / "release", stars=stars, seed=seed, config=config, progress=told)
    lap("mock release")
    workers = max(1, len(client.nthreads()))
    # A demo is a thousandth of a shard of a survey: smaller pieces keep every worker busy.
    pieces = _SHARDS_PER_WORKER * workers
    ingested = ingest(
        client,
        folder / "release",
        folder / "survey",
        RELEASE,
        progress=told,
        files_per_task=max(1, -(-len(truth.files) // pieces)),
    )
    lap("ingest")
    report = survey_module.run(
        client,
        folder / "survey",
        weights=weights,
        parameters=parameters or InferenceParameters(),
        shard_rows=max(_LEAST_SHARD, -(-ingested.rows // pieces)),
        progress=told,
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
    told("figures", 0, 1)
    pictures = _draw(folder, comparison)
    told("figures", 1, 1)
    lap("figures")
    result = DemoResult(folder, truth, ingested, comparison, pictures, seconds)
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


def _draw(folder: Path, comparison: Comparison) -> tuple[Path, ...]:
    """Draw the figures and return their paths."""
    target = folder / "figures"
    target.mkdir()
    table = comparison.exposures
    data = {name: np.asarray(table[name]) for name in table.colnames}
    pictures = []
    chosen = _showpiece(comparison)
    if len(chosen):
        shown = _epochs(folder / "survey", data, chosen)
        first = chosen[0]
        title = (
            f"Mock SB2 {data['star'][first]}: q = {data['q'][first]:.2f}, P = {data['period'][first]:.2f} d, "
            f"{data['teff1'][first]:.0f} + {data['teff2'][first]:.0f} K"
        )
        pictures.append(demo.save(demo.epochs(title, shown), target / "epochs.png"))
    scatter = demo.probability_by_separation(
        data["kind"],
        np.abs(data["delta_v"]),
        {name: data[f"snr_{name}"] for name in ARM_NAMES},
        {name: data[f"p50_{name}"] for name in ARM_NAMES},
    )
    pictures.append(demo.save(scatter, target / "probability.png"))
    residuals = demo.velocity_residuals(
        {name: data[f"snr_{name}"] for name in ARM_NAMES},
        {name: comparison.residuals(name) for name in ARM_NAMES},
        {name: data[f"rv_obs_err_{name}"] for name in ARM_NAMES},
    )
    pictures.append(demo.save(residuals, target / "velocities.png"))
    return tuple(pictures)


def _showpiece(comparison: Comparison) -> NDArray[np.int64]:
    """Rows of up to five judged exposures, evenly spread in separation, of the SB2 that shows best what an SB2 is.

    That is one whose lines part and meet, with good S/N, a bright secondary, sharp lines, and warm enough for H-alpha.
    """
    table = comparison.exposures
    data = {name: table[name].data for name in ("star", "delta_v", "snr_B", "light_ratio_B", "vsini1", "teff1")}
    best, rows = 0.0, np.empty(0, dtype=np.int64)
    for star in np.unique(data["star"][table["kind"].data == SB2]).tolist():
        mine = np.flatnonzero((data["star"] == star) & comparison.judged)
        if not len(mine):
            continue
        value = (1.0 + np.ptp(np.abs(data["delta_v"][mine]))) * np.clip(np.median(data["snr_B"][mine]), 1.0, 40.0)
        value *= data["light_ratio_B"][mine[0]] / max(15.0, data["vsini1"][mine[0]])
        value *= 1.0 if data["teff1"][mine[0]] > 5300.0 else 0.3
        if value > best:
            best, rows = float(value), mine
    if not len(rows):
        return rows
    separation = np.abs(data["delta_v"][rows])
    wanted = np.linspace(separation.min(), separation.max(), _EPOCHS)
    nearest = np.unique(np.argmin(np.abs(separation[:, None] - wanted[None, :]), axis=0))
    return np.asarray(rows[nearest[np.argsort(separation[nearest])]], dtype=np.int64)


def _epochs(survey: Path, data: dict[str, NDArray[Any]], rows: NDArray[np.int64]) -> list[Epoch]:
    """Spectra of the exposures at ``rows``, as the networks saw them but without their clipping."""
    with stores.open_store(Survey(survey).new_release(RELEASE).target / STORE, EXPOSURES) as store:
        keys = list(zip(store["obsid"].values.tolist(), store["lmjm"].values.tolist(), strict=True))
        places = [keys.index((int(data["obsid"][row]), int(data["lmjm"][row]))) for row in rows]
        block = store.isel(exposure=places).load()
    fluxes = {name: _rest_frame(name, block, data, rows) for name in ARM_NAMES}
    shown = []
    for number, row in enumerate(rows.tolist()):
        label = f"BJD {data['bjdmid'][row]:.3f}, Δv {data['delta_v'][row]:+.0f} km/s, S/N {data['snr_B'][row]:.0f}"
        shown.append(
            Epoch(
                label=label,
                flux={name: fluxes[name][number] for name in ARM_NAMES},
                probability={name: float(data[f"p50_{name}"][row]) for name in ARM_NAMES},
                velocities={
                    name: [float(data[star][row] - data[f"rv_obs_{name}"][row]) for star in ("v1", "v2")]
                    for name in ARM_NAMES
                },
            )
        )
    return shown


def _rest_frame(
    name: Any, block: xr.Dataset, data: dict[str, NDArray[Any]], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Normalised spectra of one arm in the measured rest frame, (exposure, pixel)."""
    rest = preprocess.to_rest_frame(ARMS[name], ArmSpectra.of(name, block).observe(name), data[f"rv_obs_{name}"][rows])
    return np.asarray(rest.flux.numpy(), dtype=np.float32)
