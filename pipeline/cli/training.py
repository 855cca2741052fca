"""The commands that make a training set and train on it: ``twinlines population``, ``synthesize`` and ``train``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinlines.models import defaults
from twinlines.models.vocabulary import HEADS
from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import (
    ClusterOptions,
    JsonOption,
    LibraryOption,
    SeedOption,
    connected,
    grouped,
)

if TYPE_CHECKING:
    from twinlines.pipeline.training.members import Training
    from twinlines.pipeline.training.recipe import TrainingSet
    from twinlines.pipeline.training.store import SynthesisReport

training_app = typer.Typer()

TracksOption = Annotated[
    Path | None,
    typer.Option("--tracks", help="Store of tracks, from 'twinlines tracks import'; else the one that ships."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file with priors, conditions and extra populations.")
]


class FrameOption(StrEnum):
    """Where spectra are at rest: :data:`twinlines.pipeline.synthesis.spectra.FRAMES`."""

    MEASURED = "measured"
    DRAWN = "drawn"


class ScheduleOption(StrEnum):
    """How the learning rate falls: :data:`twinlines.models.defaults.SCHEDULES`."""

    VALIDATION = "validation"
    LINEAR = "linear"


_SCHEDULE = ScheduleOption(defaults.SCHEDULE)


@dataclass(frozen=True)
class SetOptions:
    """What a training set is made of."""

    seed: SeedOption = 0
    tracks: TracksOption = None
    library: LibraryOption = None
    config: ConfigOption = None

    def training_set(self, pairs: int, frame: FrameOption | None = None) -> TrainingSet:
        """The set of so many pairs that the options describe, in the recipe's frame if none is given."""
        from twinlines.pipeline.training import config
        from twinlines.pipeline.training.recipe import TrainingSet

        # Absolute, since workers may have another current folder.
        return TrainingSet(
            n_pairs=pairs,
            seed=self.seed,
            tracks=self.tracks and self.tracks.resolve(),
            library=self.library and self.library.resolve(),
            **(config.read(self.config) if self.config else {}) | ({"frame": frame.value} if frame else {}),
        )


@dataclass(frozen=True)
class TrainingOptions:
    """Which members are trained, and how."""

    penalty: Annotated[
        list[int] | None,
        typer.Option(
            "--penalty",
            min=1,
            help=f"Penalty (Lambda) of an output; {', '.join(map(str, defaults.PENALTIES))} by default.",
        ),
    ] = None
    members: Annotated[
        int, typer.Option("--members", min=1, help="Members: networks for both arms and all penalties.")
    ] = defaults.MEMBERS
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Most epochs of one member.")] = defaults.EPOCHS
    epoch_pairs: Annotated[
        int, typer.Option("--epoch-pairs", min=0, help="Pairs shown in an epoch, then its state is kept; 0: all.")
    ] = defaults.EPOCH_PAIRS
    batch_pairs: Annotated[
        int, typer.Option("--batch-pairs", min=1, help="Pairs of a batch; a small one learns more from as many pairs.")
    ] = defaults.BATCH_PAIRS
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=0.0, help="Learning rate at the start.")] = (
        defaults.LEARNING_RATE
    )
    schedule: Annotated[
        ScheduleOption,
        typer.Option("--schedule", help="How the learning rate falls; linear: to zero at the last epoch."),
    ] = _SCHEDULE
    network: Annotated[
        str,
        typer.Option("--network", help="Sizes: default, small, wide, or a TOML file.", metavar="NAME|FILE"),
    ] = "default"
    start_at: Annotated[
        Path | None,
        typer.Option("--start-at", help="Folder of an ensemble: train on from each member's namesake there."),
    ] = None
    least_visibility: Annotated[
        float, typer.Option("--least-visibility", min=0.0, help="Binaries that show less do not count; 0: all do.")
    ] = defaults.LEAST_VISIBILITY
    augmentation: Annotated[
        Path | None, typer.Option("--augmentation", help="TOML file: how spectra are varied each time they are shown.")
    ] = None
    seed: SeedOption = 0

    def training(self) -> Training:
        """The training that the options describe."""
        from twinlines.models.augmentation import Augmentation
        from twinlines.pipeline.training.config import read_augmentation, read_sizes
        from twinlines.pipeline.training.members import Training

        return Training(
            penalties=self.penalty or defaults.PENALTIES,
            members=self.members,
            epochs=self.epochs,
            epoch_pairs=self.epoch_pairs,
            batch_pairs=self.batch_pairs,
            learning_rate=self.learning_rate,
            seed=self.seed,
            schedule=self.schedule.value,
            sizes=read_sizes(self.network),
            least_visibility=self.least_visibility,
            augmentation=read_augmentation(self.augmentation) if self.augmentation else Augmentation(),
            start_at=self.start_at,
        )


@training_app.command(epilog="Example: twinlines population --draws 20000 --tracks parsec.zarr.zip")
@grouped
def population(
    *,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Systems to draw.")] = 20_000,
    made_of: SetOptions,
    as_json: JsonOption = False,
) -> None:
    """Draw systems and say what becomes of them, without spectra: which fraction is kept, and why others are not."""
    from twinlines.pipeline.training.recipe import draw_fates

    fates = draw_fates(made_of.training_set(draws), draws)
    console.show(fates, as_json, lambda screen: show_populations(fates, screen))


@training_app.command(epilog="Example: twinlines synthesize --pairs 60000 --out pairs.zarr --report pairs-report")
@grouped
def synthesize(
    *,
    pairs: Annotated[int, typer.Option("--pairs", min=1, help="Pairs to make.")],
    out: Annotated[Path, typer.Option("--out", help="New Zarr store.")],
    made_of: SetOptions,
    frame: Annotated[
        FrameOption | None,
        typer.Option("--frame", help="Spectra at rest at measured velocities, or as drawn; measured by default."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Folder for figures of the set, like the paper's 1 and 2.")
    ] = None,
    where: ClusterOptions,
    as_json: JsonOption = False,
) -> None:
    """Make a training set: pairs of a single star and a binary. Killed, it goes on where it was."""
    from twinlines.pipeline.figures.training_set import write
    from twinlines.pipeline.training import store

    training_set = made_of.training_set(pairs, frame)
    made = store.made_before(training_set, out)
    if made is None:
        with connected(where) as client, console.progress() as progress:
            made = store.synthesize(client, training_set, out, progress=progress)
    figures = write(out, training_set, report) if report and made.complete else []

    def lines(screen: Console) -> None:
        show_synthesis(made, out, screen)
        console.say(screen, [f"figure: {path}" for path in figures])

    console.show({**made.to_json(), "figures": [str(path) for path in figures]}, as_json, lines)
    if not made.complete:
        raise typer.Exit(1)


@training_app.command(epilog="Example: twinlines train --pairs pairs.zarr --members 3 --out weights")
@grouped
def train(
    *,
    pairs: Annotated[
        list[Path],
        typer.Option("--pairs", help="Training store, from 'twinlines synthesize'; given again, one more of them."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the ensemble.")],
    how: TrainingOptions,
    where: ClusterOptions,
    as_json: JsonOption = False,
) -> None:
    """Train an ensemble, one member a task. Killed, each member goes on after its last epoch."""
    from twinlines.pipeline.figures.learning import learning_curves
    from twinlines.pipeline.training.members import train as run_training

    training = how.training()

    def draw() -> None:
        learning_curves(out)

    with connected(where) as client, console.progress() as progress:
        metrics = run_training(client, pairs, out, training, progress=progress, member_finished=draw)
    console.show(metrics, as_json, lambda screen: show_training(metrics, screen))


def show_populations(fates: Mapping[str, Mapping[str, int]], where: Console) -> None:
    """Print what became of the draws of each population."""
    for name, counts in fates.items():
        total = sum(counts.values())
        _show_fates(counts, total, where)
        where.print(f"{name}: {100 * counts.get('kept', 0) / total:.1f} % of {total} draws are kept")


def show_synthesis(made: SynthesisReport, out: Path, where: Console) -> None:
    """Print what became of the draws, and of the store ``out``."""
    _show_fates(made.fates, made.n_draws, where)
    lines = [f"{made.n_pairs} pairs of {made.n_draws} draws ({100 * made.kept_fraction:.1f} % kept)"]
    lines += [f"failed: {shard.piece}: {shard.error} (traceback in {shard.file})" for shard in made.failed]
    if made.failed:
        lines.append(f"{out} is not there yet; mend the cause and give the same command again")
    else:
        lines.append(f"{out}: {made.computed} shards made now, {made.skipped} before")
    console.say(where, lines)


def show_training(metrics: Mapping[str, Mapping[str, float]], where: Console) -> None:
    """Print a row for each member."""
    heads = [f"test_tpr_{head}_at_paper_fpr" for head in HEADS]
    columns = ("epochs", "best_epoch", "validation_loss", *heads)
    rows: list[tuple[object, ...]] = [
        (member, *(round(measured[column], 5) for column in columns)) for member, measured in sorted(metrics.items())
    ]
    where.print(console.table(("member", *columns), rows))


def _show_fates(fates: Mapping[str, int], draws: int, where: Console) -> None:
    rows: list[tuple[object, ...]] = [
        (fate, number, f"{100.0 * number / draws:.1f}")
        for fate, number in sorted(fates.items(), key=lambda counted: -counted[1])
    ]
    where.print(console.table(("fate of the draws", "number", "%"), rows))
