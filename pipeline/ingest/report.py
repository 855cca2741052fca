"""What became of the files of a folder that was ingested: the report that stands in a release."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any


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
    """Files whose names are those of spectra; see :mod:`twinlines.pipeline.lamost.names`."""
    files_used: int
    """Files that give a row: not those that are quarantined, nor those of which each exposure is in an earlier file."""
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
    unused: tuple[str, ...]
    """Files that give no row because earlier files have each of their exposures."""
    conflicts: tuple[Conflict, ...]
    """Exposures that were left out because an earlier file has them with other content."""
    quarantined: tuple[Quarantined, ...]
    """Files that give no row."""
    warnings: tuple[FileWarning, ...]
    """What is wrong in the others."""
    hidden: int
    """Hidden folders and spectra, whose names begin with a dot, that were passed over."""
    named_otherwise: int
    """Files whose names resemble a spectrum's but are none, such as ``x.fits.gz.1``, that were passed over."""
    passed_over: tuple[str, ...]
    """Paths of the first hundred of both."""

    @property
    def reasons(self) -> dict[str, int]:
        """Number of quarantined files by reason, the most frequent first."""
        return dict(Counter(file.reason for file in self.quarantined).most_common())

    def to_json(self) -> dict[str, Any]:
        """Return the report as what :func:`json.dumps` takes."""
        return {**asdict(self), "reasons": self.reasons}
