"""The commands that make a training set, train an ensemble on it and evaluate one: arguments and what is printed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import (
    ClusterOption,
    InsecureOption,
    JsonOption,
    SeedOption,
    WorkersOption,
    connected,
)

if TYPE_CHECKING:
    from rich.console import Console

    from twinlines.pipeline.training.recipe import TrainingSet

training_app = typer.Typer()

TracksOption = Annotated[
    Path | None, typer.Option("--tracks", help="Track table, from 'twinlines tracks import'; else the one that ships.")
]
LibraryOption = Annotated[
    Path | None,
    typer.Option("--library", help="Spectral library, from 'twinlines library import'; else the one that ships."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file with priors, conditions and extra populations.")
]


class ArmOption(StrEnum):
    """Arms."""

    B = "B"
    R = "R"


class ScheduleOption(StrEnum):
    """How the learning rate falls."""

    VALIDATION = "validation"
    LINEAR = "linear"


class SplitOption(StrEnum):
    """Which pairs are judged."""

    TEST = "test"
    ALL = "all"


def _training_set(pairs: int, seed: int, tracks: Path | None, library: Path | None, config: Path | None) -> TrainingSet:
    from twinlines.pipeline.training import config as trainingconfig
    from twinlines.pipeline.training.recipe import TrainingSet

    chosen = trainingconfig.read(config) if config else {}
    # Absolute, since workers may have another current folder.
    return TrainingSet(
        n_pairs=pairs, seed=seed, tracks=tracks and tracks.resolve(), library=library and library.resolve(), **chosen
    )


def _print_fates(fates: dict[str, int], draws: int, where: Console) -> None:
    rows: list[tuple[object, ...]] = [
        (name, number, f"{100.0 * number / draws:.1f}")
        for name, number in sorted(fates.items(), key=lambda one: -one[1])
    ]
    where.print(console.table(("fate of the draws", "number", "%"), rows))


@training_app.command(epilog="Example: twinlines population --draws 20000 --tracks parsec.zarr.zip")
def population(
    draws: Annotated[int, typer.Option("--draws", min=1, help="Systems to draw.")] = 20_000,
    seed: SeedOption = 0,
    tracks: TracksOption = None,
    library: LibraryOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw systems and say what becomes of them, without spectra: which fraction is kept, and why others are not."""
    from twinlines.pipeline.training.recipe import draw_fates

    fates = draw_fates(_training_set(draws, seed, tracks, library, config), draws)

    def lines(where: Console) -> None:
        for name, counts in fates.items():
            total = sum(counts.values())
            _print_fates(counts, total, where)
            where.print(f"{name}: {100 * counts.get('kept', 0) / total:.1f} % of {total} draws are kept")

    console.show(fates, as_json, lines)


@training_app.command(epilog="Example: twinlines synthesize --pairs 60000 --out pairs.zarr --report pairs-report")
def synthesize(
    pairs: Annotated[int, typer.Option("--pairs", min=1, help="Pairs to make.")],
    out: Annotated[Path, typer.Option("--out", help="New Zarr store.")],
    seed: SeedOption = 0,
    tracks: TracksOption = None,
    library: LibraryOption = None,
    config: ConfigOption = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Folder for figures of the set, like the paper's 1 and 2.")
    ] = None,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a training set: pairs of a single star and a binary. Killed, it goes on where it was."""
    from twinlines.pipeline.figures import training_set as trainingreport
    from twinlines.pipeline.training import store

    training_set = _training_set(pairs, seed, tracks, library, config)
    made = store.made_before(training_set, out)
    if made is None:
        with connected(cluster, workers, insecure) as client, console.progress() as progress:
            made = store.synthesize(client, training_set, out, progress=progress)
    figures = trainingreport.write(out, training_set, report) if report and made.complete else []

    def lines(where: Console) -> None:
        _print_fates(made.fates, made.n_draws, where)
        where.print(f"{made.n_pairs} pairs of {made.n_draws} draws ({100 * made.kept_fraction:.1f} % kept)")
        for one in made.failed:
            where.print(f"failed: {one.piece}: {one.error} (traceback in {one.file})", markup=False)
        if made.failed:
            where.print(f"{out} is not there yet; mend the cause and give the same command again")
        else:
            where.print(f"{out}: {made.computed} shards made now, {made.skipped} before")
        for path in figures:
            where.print(f"figure: {path}", markup=False)

    console.show({**made.to_json(), "figures": [str(path) for path in figures]}, as_json, lines)
    if not made.complete:
        raise typer.Exit(1)


@training_app.command(epilog="Example: twinlines train --pairs pairs.zarr --penalty 16 --members 3 --out weights")
def train(
    pairs: Annotated[Path, typer.Option("--pairs", help="Training store, from 'twinlines synthesize'.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the ensemble.")],
    arm: Annotated[list[ArmOption] | None, typer.Option("--arm", help="Arm; both by default.")] = None,
    penalty: Annotated[
        list[int] | None, typer.Option("--penalty", min=1, help="Penalty (Lambda); 16 by default.")
    ] = None,
    members: Annotated[int, typer.Option("--members", min=1, help="Members for each arm and penalty.")] = 5,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Most epochs of one member.")] = 60,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", min=0.0, help="Learning rate at the start.")
    ] = 1.0e-3,
    schedule: Annotated[
        ScheduleOption,
        typer.Option("--schedule", help="How the learning rate falls; linear: to zero at the last epoch."),
    ] = ScheduleOption.VALIDATION,
    network: Annotated[
        str,
        typer.Option(
            "--network", help="Sizes: default, small, first, wide, lenet5, or a TOML file.", metavar="NAME|FILE"
        ),
    ] = "default",
    start_at: Annotated[
        Path | None,
        typer.Option("--start-at", help="Folder of an ensemble: train on from each member's namesake there."),
    ] = None,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Later penalties start at the member's weights at the first one.")
    ] = False,
    warm_epochs: Annotated[int, typer.Option("--warm-epochs", min=1, help="Most epochs of a warm start.")] = 1,
    warm_learning_rate: Annotated[
        float, typer.Option("--warm-learning-rate", min=0.0, help="Learning rate of a warm start.")
    ] = 3.0e-4,
    warm_pairs: Annotated[
        int, typer.Option("--warm-pairs", min=0, help="Pairs shown in an epoch of a warm start; 0: all.")
    ] = 0,
    seed: SeedOption = 0,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train an ensemble, one member a task. Killed, each member goes on after its last epoch."""
    from twinlines.pipeline.figures.learning import learning_curves
    from twinlines.pipeline.training.config import read_sizes
    from twinlines.pipeline.training.members import Training, WarmStart
    from twinlines.pipeline.training.members import train as run_train

    training = Training(
        arms=[one.value for one in arm or list(ArmOption)],
        penalties=penalty or [16],
        members=members,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        schedule=schedule.value,
        sizes=read_sizes(network),
        warm_start=WarmStart(warm_epochs, warm_learning_rate, warm_pairs) if warm_start else None,
        start_at=start_at,
    )
    with connected(cluster, workers, insecure) as client, console.progress() as progress:
        metrics = run_train(
            client, pairs, out, training, progress=progress, member_finished=lambda: learning_curves(out)
        )
    columns = ("epochs", "best_epoch", "validation_loss", "test_tpr", "test_fpr", "test_tpr_at_fpr_0.001")
    rows: list[tuple[object, ...]] = [
        (name, *(round(one[column], 5) for column in columns)) for name, one in sorted(metrics.items())
    ]
    console.show(metrics, as_json, lambda where: where.print(console.table(("member", *columns), rows)))


@training_app.command(epilog="Example: twinlines evaluate --pairs pairs.zarr --weights weights --out evaluation")
def evaluate(
    pairs: Annotated[Path, typer.Option("--pairs", help="Training store, from 'twinlines synthesize'.")],
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Folder of an ensemble, if not the shipped one.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for the figures and the numbers; those of an earlier one are replaced."),
    ] = Path("evaluation"),
    split: Annotated[
        SplitOption, typer.Option("--split", help="all: for a set of which training has seen nothing.")
    ] = SplitOption.TEST,
    twins: Annotated[
        int, typer.Option("--twins", min=0, help="Noisy spectra at each point of Figure 5, 2000 in the paper; 0: none.")
    ] = 100,
    rule_pairs: Annotated[
        int, typer.Option("--rule-pairs", min=0, help="Most pairs that the catalog's rule is tried on; 0: none.")
    ] = 2000,
    sb2_fraction: Annotated[
        float, typer.Option("--sb2-fraction", min=0.0, max=1.0, help="Fraction of SB2s for which precision is given.")
    ] = 0.02,
    seed: SeedOption = 0,
    library: LibraryOption = None,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure an ensemble on pairs that training never saw: the paper's Table 3 and Figures 4 to 6, and more.

    Killed, it goes on where it was.
    """
    import shutil

    from twinlines.pipeline.evaluation.evaluation import Options
    from twinlines.pipeline.evaluation.evaluation import evaluate as run_evaluation
    from twinlines.pipeline.figures import evaluation as evaluationfigures
    from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS

    options = Options(
        split=split.value,
        twins=twins,
        rule_pairs=rule_pairs,
        sb2_fraction=sb2_fraction,
        seed=seed,
        library=library,
    )
    answers = out / ".answers"
    with connected(cluster, workers, insecure) as client, console.progress() as progress:
        report = run_evaluation(client, pairs, weights or SHIPPED_WEIGHTS, options, answers=answers, progress=progress)
    files = evaluationfigures.write(report, out)
    shutil.rmtree(answers, ignore_errors=True)

    def lines(where: Console) -> None:
        report.show(where)
        for path in files:
            where.print(f"written: {path}", markup=False)

    console.show({**report.to_json(), "files": [str(path) for path in files]}, as_json, lines)
