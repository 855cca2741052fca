"""What an audit found, as frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Lost:
    """An exposure, or a file, that is not where it should be."""

    release: str
    """Release that it is of; empty for a row of a catalog that no release has."""
    obsid: int
    """Observation identifier; -1 for a file that says none."""
    lmjm: int
    """Local modified Julian minute; -1 for a whole file."""
    file: str
    """FITS file, relative to the release's folder; empty where it is not known."""
    why: str
    """What is wrong."""


@dataclass(frozen=True)
class ReleaseAudit:
    """The exposures of one release: those that its files have, and where they ended."""

    name: str
    """Name."""
    rows: int
    """Rows of the release."""
    folder: str
    """Folder of its files."""
    there: bool
    """Whether the folder is there; if not, no file was asked, and all counts below are 0."""
    compared: bool
    """Whether the files' contents were compared with the rows', or identifiers alone."""
    files: int
    """Files in the folder that are named like spectra."""
    files_gone: int
    """Files of which the release has rows, or a reason, that are not in the folder any more."""
    exposures: int
    """Exposures that the files have: the sum of those that follow."""
    in_rows: int
    """Exposures that are in a row of the release."""
    duplicates: int
    """Exposures of which another file gives the row."""
    unchanged: int
    """Exposures that an earlier release has."""
    unusable: int
    """Exposures without a usable arm, which the release's report names."""
    quarantined: int
    """Exposures of files that are put aside, with a reason."""
    later: int
    """Exposures of files that came, or changed, after the release was made."""
    lost: int
    """Exposures that are nowhere."""


@dataclass(frozen=True)
class AuditReport:
    """An audit of a survey."""

    survey: str
    """Its folder."""
    catalog: str | None
    """The catalog that was compared; None: there is none yet."""
    releases: tuple[ReleaseAudit, ...]
    """Its releases, the oldest first."""
    rows_in: int
    """Rows of the releases that the catalog covers."""
    rows_out: int
    """Rows of the catalog."""
    superseded: int
    """Rows of releases that a newer release has anew."""
    waiting: tuple[str, ...]
    """Releases that the catalog does not cover: they are not run yet."""
    problems: int
    """How much is not where it should be."""
    lost: tuple[Lost, ...]
    """The first of these."""

    @property
    def complete(self) -> bool:
        """Whether everything is where it should be: a file that is gone may have held what nobody can check."""
        return not self.problems and not self.files_gone

    @property
    def files_gone(self) -> int:
        """Files of the releases that were ingested and are not where they were."""
        return sum(release.files_gone for release in self.releases)

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {**asdict(self), "complete": self.complete}
