"""What became of the files of a folder that was ingested: the report that stands in a release."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

_SHOWN = 20


@dataclass(frozen=True)
class Quarantined:
    """A file that gives no row."""

    path: str
    """Path relative to the folder."""
    reason: str
    """Category; see :class:`twinlines.pipeline.lamost.reader.Reason`."""
    message: str
    """What is wrong, and what to do."""


@dataclass(frozen=True)
class FileWarning:
    """Something wrong in a file that is used nevertheless."""

    path: str
    """Path relative to the folder."""
    message: str
    """What is wrong."""


@dataclass(frozen=True)
class Conflict:
    """One exposure in two files with different content."""

    obsid: int
    """Observation identifier."""
    lmjm: int
    """Local modified Julian minute."""
    kept: str
    """The file whose row is in the release: the first in the order of paths."""
    dropped: str
    """The file whose row is not."""


@dataclass(frozen=True)
class IngestReport:
    """What became of the files of a folder."""

    release: str
    """Name of the release."""
    follows: str | None
    """The release before it, with which, and those before that, its exposures were compared; None for the first."""
    folder: str
    """The folder that was ingested."""
    files_seen: int
    """Files named ``*.fits`` or ``*.fits.gz``."""
    rows: int
    """Exposures in the release: the new and the changed ones."""
    new: int
    """Exposures that no earlier release has."""
    changed: int
    """Exposures that earlier releases have with other content."""
    unchanged: int
    """Exposures that are left out because an earlier release has them as they are."""
    duplicates: int
    """Exposures that were left out because an earlier file has them with the same content."""
    conflicts: tuple[Conflict, ...]
    """Exposures that were left out because an earlier file has them with other content."""
    quarantined: tuple[Quarantined, ...]
    """Files that give no row."""
    warnings: tuple[FileWarning, ...]
    """What is wrong in the others."""

    @property
    def reasons(self) -> dict[str, int]:
        """Number of quarantined files by reason, the most frequent first."""
        return dict(Counter(one.reason for one in self.quarantined).most_common())

    def to_json(self) -> dict[str, Any]:
        """Return the report as what :func:`json.dumps` takes."""
        return {**asdict(self), "reasons": self.reasons}

    def show(self, console: Console) -> None:
        """Print the report for people."""
        used = self.files_seen - len(self.quarantined)
        lines = [f"release {self.release}: {self.rows} exposures, {used} of {self.files_seen} files in {self.folder}"]
        if self.follows:
            lines.append(
                f"{self.new} exposures are new, {self.changed} changed, {self.unchanged} left out as they are in "
                f"{self.follows} or before it"
            )
        if self.reasons:
            lines.append("quarantined: " + ", ".join(f"{count} {reason}" for reason, count in self.reasons.items()))
        if self.duplicates:
            lines.append(f"{self.duplicates} exposures are in several files with the same content; one each is kept")
        sections: list[tuple[str, list[str]]] = [
            ("quarantined", [f"{one.path} ({one.reason}): {one.message}" for one in self.quarantined]),
            ("conflict", [f"{c.obsid}, {c.lmjm}: {c.kept} kept, {c.dropped} differs" for c in self.conflicts]),
            ("warning", [f"{one.path}: {one.message}" for one in self.warnings]),
        ]
        for title, entries in sections:
            lines += [f"{title}: {entry}" for entry in entries[:_SHOWN]]
            if len(entries) > _SHOWN:
                lines.append(f"{title}: and {len(entries) - _SHOWN} more; all are in the release's report.json")
        for line in lines:
            # A file name that is no UTF-8 reads as lone surrogates, which no terminal takes.
            text = line.encode("utf-8", "backslashreplace").decode()
            console.print(text, markup=False, highlight=False)
