"""One data release of a survey: its folder, its small columns. It never changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.storage import atomic, stores

ABOUT = "release.json"
"""File of a release that says what it is; it is written last."""

CHECKSUMS = "checksums.json"
"""File of a release that says what its shards' files must be."""

REPORT = "report.json"
"""File of a release that says what became of every FITS file."""

STORE = "exposures.zarr"
"""Store of a release's exposures."""

KEY_COLUMNS = ("obsid", "lmjm", "content_hash")
"""Columns that say which exposure a row is, and whether it is the same as another."""


_DIGEST = "sha256"
"""Entry of :data:`ABOUT` that is a hash of all others: a bit that is lost there changes which release is the newest."""


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """Say in a release's folder what it is; with it, the release is whole.

    Parameters
    ----------
    folder
        The folder.
    about
        What :class:`Release` reads, and more, as JSON.
    """
    atomic.write_json(folder / ABOUT, {**about, _DIGEST: _digest(about)})


def _digest(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


class SurveyError(RuntimeError):
    """A survey, or a release of it, does not exist or cannot be used as asked."""


@dataclass(frozen=True)
class Release:
    """One data release of a survey; it never changes."""

    name: str
    """Name, such as "dr8"."""
    folder: Path
    """Its folder, ``releases/<name>``; another one is a copy's."""
    number: int
    """Its place among the survey's releases, from 1: a later release's rows supersede an earlier one's. No clock is
    asked. 0 for one of a version that did not number them."""
    created: datetime
    """When it was made, for people."""
    rows: int
    """Exposures."""
    quarantined: int
    """Files that could not be read."""
    checksums_digest: str = ""
    """SHA-256 of :data:`CHECKSUMS`; empty for one of a version that did not say."""

    @property
    def store(self) -> Path:
        """Its exposures."""
        return self.folder / STORE

    @property
    def checksums(self) -> Path:
        """What its shards' files must be."""
        return self.folder / CHECKSUMS

    @classmethod
    def read(cls, folder: Path) -> Release:
        """Read what the release in a folder says of itself.

        Raises
        ------
        SurveyError
            If its file is damaged.
        """
        path = folder / ABOUT
        try:
            about = json.loads(path.read_text())
            if about.pop(_DIGEST, None) not in (None, _digest(about)):
                raise ValueError("its checksum differs")  # noqa: TRY301 (joins the other kinds of damage)
            return cls(
                name=str(about.get("name", folder.name)),
                folder=folder,
                number=int(about.get("number", 0)),
                created=datetime.fromisoformat(about["created"]),
                rows=int(about["rows"]),
                quarantined=int(about["quarantined"]),
                checksums_digest=str(about.get("checksums", "")),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SurveyError(
                f"{path} is damaged ({error!r}); restore it from a copy, or move this release and all later ones "
                "away and ingest them again, in their order"
            ) from error

    def key_columns(
        self, start: int = 0, stop: int | None = None, names: Sequence[str] = KEY_COLUMNS
    ) -> dict[str, NDArray[Any]]:
        """obsid, lmjm and content hash of the rows from ``start`` to ``stop`` (all by default), or ``names``.

        Raises
        ------
        SurveyError
            If rows were lost.
        """
        columns = stores.read_columns(self.store, names, start, stop)
        if np.any(columns["obsid"] == EXPOSURES.variables["obsid"].missing):
            # Zarr reads a file that is not there as missing values.
            raise SurveyError(
                f"{self.store} has lost rows between {start} and {self.rows if stop is None else stop}: obsid is "
                "missing; restore the release's files, or ingest it again"
            )
        return columns

    def key_pieces(self, rows: int, names: Sequence[str] = KEY_COLUMNS) -> Iterator[dict[str, NDArray[Any]]]:
        """:meth:`key_columns` of all rows, so many at a time; a release without any has none."""
        for start in range(0, self.rows, rows):
            yield self.key_columns(start, min(start + rows, self.rows), names)
