"""The client's side of an evaluation's tasks: those with a kept answer are not asked again, and answers are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client

from twinlines.cluster.window import run_window
from twinlines.pipeline.evaluation.answers import Answer, Answers
from twinlines.pipeline.evaluation.tasks import EvaluationError
from twinlines.pipeline.jobs.locks import lock
from twinlines.pipeline.progress import Progress


@contextmanager
def held(answers: Path | None) -> Iterator[None]:
    """Hold the folder of answers, made if need be."""
    if answers is None:
        yield
        return
    answers.mkdir(parents=True, exist_ok=True)
    with lock(answers, "twinlines evaluate"):
        yield


@dataclass(frozen=True)
class Run:
    """The client's side of a run of tasks."""

    client: Client
    """Client of the cluster that computes."""
    pairs: str
    """Path of the store."""
    progress: Progress
    """Told of each answer."""
    answers: Answers | None
    """Where answers are kept; None: nowhere."""

    def __call__(
        self, stage: str, function: Callable[..., Answer], tasks: Iterable[tuple[Any, ...]]
    ) -> list[tuple[Any, Answer]]:
        """Answers of ``function(*task)`` with their tasks' first arguments, those that were kept first."""
        tasks = list(tasks)
        found, missing = [], []
        for task in tasks:
            answer = self.answers.find(_question(stage, task)) if self.answers else None
            if answer is None:
                missing.append(task)
            else:
                found.append((task[0], answer))
        self.progress(stage, len(found), len(tasks))
        for task, answer in results(self.client, stage, function, missing):
            if self.answers:
                self.answers.keep(_question(stage, task), answer)
            found.append((task[0], answer))
            self.progress(stage, len(found), len(tasks))
        return found


def _question(stage: str, task: tuple[Any, ...]) -> str:
    subject, *others = task
    # A path decides nothing: what is at it does, and counts for all answers.
    return f"{stage} {subject.question} {[one for one in others if not isinstance(one, Path)]}"


def results(
    client: Client, stage: str, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Tasks with what ``function(*task)`` returns, as they finish."""
    for task, future in run_window(client, function, tasks):
        if future.status == "error":
            error = future.exception()
            raise EvaluationError(f"{stage}: {task[0]}: {error}") from error
        if future.status != "finished":
            raise EvaluationError(f"{stage}: the cluster was lost ({task[0]} is {future.status}); evaluate again")
        yield task, future.result()
