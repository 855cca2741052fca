"""The client's side of tasks that answer: questions whose answers are kept are not asked again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client

from twinlines.pipeline.jobs import engine
from twinlines.pipeline.jobs.answers import Answer, Answers
from twinlines.pipeline.jobs.engine import JobError
from twinlines.pipeline.jobs.locks import lock
from twinlines.pipeline.jobs.markers import Markers
from twinlines.pipeline.progress import Progress


@contextmanager
def working_folder(answers: Path | None, purpose: str) -> Iterator[Path]:
    """The folder of answers, made if need be, and locked; without one, a folder that lasts as long as the context.

    Parameters
    ----------
    answers
        The folder.
    purpose
        Who holds it, in words; whoever comes second is told.
    """
    if answers is None:
        with tempfile.TemporaryDirectory(prefix="twinlines-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    answers.mkdir(parents=True, exist_ok=True)
    with lock(answers, purpose):
        yield answers


@dataclass(frozen=True)
class Question:
    """What one task is asked."""

    stage: str
    """Part of the job."""
    subject: Any
    """What it is asked about; its text names it for people."""
    key: str
    """Key of the task."""

    @property
    def about(self) -> dict[str, str]:
        """What a failure's file should say of it."""
        return {"stage": self.stage, "subject": str(self.subject)}

    def __str__(self) -> str:
        return f"{self.stage}: {self.subject}"


@dataclass(frozen=True)
class Questions:
    """Asks the workers what is not answered yet."""

    client: Client
    """Client of the cluster that computes."""
    answers: Answers
    """Where answers are kept."""
    progress: Progress
    """Told of each answer."""
    keeper: str
    """Name under which workers keep what they need, such as the ensemble; "" if nothing."""

    def ask(
        self, stage: str, function: Callable[..., Answer], tasks: Iterable[tuple[Any, ...]]
    ) -> list[tuple[Any, Answer]]:
        """Answers of ``function(subject, keeper, *others)`` for each task (subject, others), with their subjects.

        Raises
        ------
        JobError
            If a task fails to the last retry, the cluster was lost, or a disk is full; answers are kept.
        """
        answered, missing = [], []
        for subject, *others in tasks:
            question = Question(stage, subject, self.answers.key(_text(stage, subject, others)))
            answer = self.answers.find(question.key)
            if answer is None:
                missing.append((question, function, self.keeper, *others))
            else:
                answered.append((subject, answer))
        total = len(answered) + len(missing)

        def finished(question: Question, answer: Answer) -> None:
            self.answers.keep(question.key, answer, **question.about)
            answered.append((question.subject, answer))
            self.progress(stage, len(answered), total)

        self.progress(stage, len(answered), total)
        compute(self.client, self.answers.markers, missing, finished)
        return answered


def compute(
    client: Client,
    markers: Markers,
    tasks: Iterable[tuple[Any, ...]],
    finished: Callable[[Any, Any], None],
) -> None:
    """Call ``function(subject, *others)`` on the workers for each task ``(question, function, *others)``.

    Raises
    ------
    JobError
        If a task fails to the last retry; the others go on.
    """
    failed = engine.compute(client, markers, _answer, tasks, finished)
    if failed:
        (key, first), *others = failed.items()
        more = f" (and {len(others)} more like it)" if others else ""
        error = JobError(f"{first.piece}: {first.error}{more}")
        # Its file may be in a folder that is about to go.
        error.add_note("\n".join(markers.failure(key)["traceback"]))
        raise error


def _answer(question: Question, function: Callable[..., Any], *others: Any) -> Any:
    return function(question.subject, *others)


def _text(stage: str, subject: Any, others: Iterable[Any]) -> str:
    # A path decides nothing: what is at it does, and counts for all answers.
    return f"{stage} {subject.question} {[value for value in others if not isinstance(value, Path)]}"
