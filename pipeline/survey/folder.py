"""A survey on disk: where its releases, runs and catalogs lie, which of them are in force, and who works on it.

The only module that knows the folder's layout::

    releases/<name>/             a release; ``.<name>.work`` and ``.<name>.partial`` are one in the making
    runs/<config key>/           a run: its markers and results
    catalogs/<name>.zarr/        a published catalog
    catalogs/<name>.index        the index beside it
    zeropoints/<name>.zarr/      the zero points of a catalog of that name
    CURRENT                      name of the catalog in force
    .lock, .ingest.lock          who computes, and who ingests
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlines.pipeline.jobs import locks
from twinlines.pipeline.jobs.markers import Markers
from twinlines.pipeline.storage import atomic, inventory
from twinlines.pipeline.survey import releases
from twinlines.pipeline.survey.releases import Release, SurveyError
from twinlines.pipeline.survey.runs import SurveyRun

SUFFIX = ".zarr"
"""Ending of a catalog's name."""

_RELEASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_INGEST_LOCK = ".ingest.lock"  # releases are made one after the other, but beside a run
_POINTER = "CURRENT"
_WORK, _PARTIAL = ".work", ".partial"


@dataclass(frozen=True)
class ReleaseInTheMaking:
    """Where an ingestion works until its release is whole."""

    target: Path
    """Folder that the release will have."""

    @property
    def name(self) -> str:
        """Name that the release will have."""
        return self.target.name

    @property
    def work(self) -> Path:
        """List of files, markers, and what was scanned."""
        return self.target.with_name(f".{self.name}{_WORK}")

    @property
    def partial(self) -> Path:
        """The release, as far as it is written."""
        return self.target.with_name(f".{self.name}{_PARTIAL}")

    @property
    def scanned(self) -> Markers:
        """Which batches of files are scanned."""
        return Markers(self.work / "scan")

    @property
    def written(self) -> Markers:
        """Which shards are written."""
        return Markers(self.work / "write")


@dataclass(frozen=True)
class Survey:
    """The folder of a survey; making one of these touches no disk."""

    path: Path
    """The folder."""

    @classmethod
    def at(cls, path: str | Path) -> Survey:
        """The survey in a folder, its path made absolute, so that workers elsewhere find it."""
        return cls(Path(path).resolve())

    @property
    def _first_step(self) -> str:
        return f"'twinlines ingest FITS_DIR --survey {self} --release NAME'"

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        if not self.path.is_dir():
            return f"<Survey {self.path}: no such folder>"
        try:
            known = [f"{release.name} ({release.rows} exposures)" for release in self.releases]
            copies = [f"\n {path} is a copy and does not count" for path in self.copies]
        except SurveyError as error:  # whoever looks at it wants to see what is wrong, not a traceback
            return f"<Survey {self.path}: {error}>"
        return (
            f"<Survey {self.path}: {len(known)} releases{': ' if known else ''}{', '.join(known)}\n"
            f" {len(self.runs)} runs, {len(self.catalogs)} catalogs; current: "
            f"{self.current.name if self.current else 'none'}{''.join(copies)}>"
        )

    # Releases.

    @property
    def releases(self) -> tuple[Release, ...]:
        """Its releases, the oldest first.

        Raises
        ------
        SurveyError
            If there is no survey, a release is damaged, or its folder has another name than it.
        """
        every = self._release_folders()
        there = {release.name for release in every if release.folder.name == release.name}
        for release in every:
            if release.name not in there:
                raise SurveyError(
                    f"{release.folder} says that it is the release {release.name!r}, and there is no other of that "
                    f"name; rename the folder to {release.name!r}, or move it out of {release.folder.parent}"
                )
        own = (release for release in every if release.folder.name == release.name)
        return tuple(sorted(own, key=lambda release: (release.number, release.created, release.name)))

    @property
    def copies(self) -> tuple[Path, ...]:
        """Folders that hold a copy of a release, such as ``releases/dr7.bak``: they do not count."""
        return tuple(
            sorted(release.folder for release in self._release_folders() if release.folder.name != release.name)
        )

    def _release_folders(self) -> list[Release]:
        if not self.path.is_dir():
            raise SurveyError(f"there is no survey at {self}; {self._first_step} makes one")
        return [Release.read(path.parent) for path in (self.path / "releases").glob(f"[!.]*/{releases.ABOUT}")]

    def releases_up_to(self, name: str | None) -> tuple[Release, ...]:
        """Release ``name`` (the newest, if None) and those before it: what its catalog covers, the oldest first.

        Raises
        ------
        SurveyError
            If there is no such release, naming those that exist.
        """
        every = self.releases
        if not every:
            raise SurveyError(f"the survey {self} has no release yet; {self._first_step} makes one")
        names = [release.name for release in every]
        if name is None:
            return every
        if name not in names:
            raise SurveyError(f"the survey {self} has no release {name!r}; it has {', '.join(names)}")
        return every[: names.index(name) + 1]

    def new_release(self, name: str) -> ReleaseInTheMaking:
        """Where the release ``name`` is made.

        Raises
        ------
        SurveyError
            If the name is no name for a release.
        """
        if not _RELEASE_NAME.fullmatch(name):
            raise SurveyError(f"{name!r} cannot name a release; use letters, digits, '.', '_' and '-', e.g. 'dr8'")
        return ReleaseInTheMaking(self.path / "releases" / name)

    @property
    def releases_in_the_making(self) -> tuple[ReleaseInTheMaking, ...]:
        """Releases whose ingestion is at work, or was broken off."""
        works = sorted((self.path / "releases").glob(f".*{_WORK}"))
        return tuple(self.new_release(work.name[1 : -len(_WORK)]) for work in works)

    # Runs.

    def run(self, config_key: str) -> SurveyRun:
        """The run of a recipe's key; touches no disk."""
        return SurveyRun(self.path / "runs" / config_key)

    @property
    def runs(self) -> tuple[SurveyRun, ...]:
        """Its runs, the most recently started last."""
        every = [SurveyRun(path.parent) for path in (self.path / "runs").glob("*/run.json")]
        return tuple(sorted(every, key=lambda run: (run.start_number, run.config_key)))

    @property
    def next_start_number(self) -> int:
        """Number of the next start of a run; clocks jump, numbers do not."""
        return 1 + max((run.start_number for run in self.runs), default=0)

    # Catalogs.

    @property
    def catalogs_folder(self) -> Path:
        """Where catalogs are."""
        return self.path / "catalogs"

    @property
    def catalogs(self) -> tuple[str, ...]:
        """Names of its catalogs, the current one and earlier ones."""
        return tuple(sorted(path.name for path in self.catalogs_folder.glob(f"[!.]*{SUFFIX}")))

    def catalog(self, name: str) -> Path:
        """Folder of a catalog."""
        return self.catalogs_folder / name

    def catalog_index(self, name: str) -> Path:
        """The index beside a catalog; older catalogs have none."""
        return self.catalogs_folder / f"{name.removesuffix(SUFFIX)}.index"

    def catalog_name(self, release: str, config_key: str) -> str:
        """Name of the catalog of a release by a run."""
        return f"{release}-{config_key}{SUFFIX}"

    def zero_points(self, name: str) -> Path:
        """Folder of the zero points of a catalog."""
        return self.path / "zeropoints" / name

    @property
    def current(self) -> Path | None:
        """Folder of the current catalog; None if there is none."""
        pointer = self.path / _POINTER
        # Empty: a copy that was broken off. What is damaged names a catalog that there is none of.
        name = pointer.read_bytes().decode(errors="replace").strip() if pointer.exists() else ""
        return self.catalog(name) if name else None

    def make_current(self, name: str) -> None:
        """Let a catalog be the current one, by one rename."""
        if self.current != self.catalog(name):
            atomic.write_bytes(self.path / _POINTER, f"{name}\n".encode())

    def about_catalog(self, name: str) -> dict[str, Any]:
        """What a catalog says of itself: its releases, run, weights and so on; nothing, if it cannot be read."""
        try:
            return inventory.parsed((self.catalog(name) / "zarr.json").read_bytes())[0]
        except (OSError, ValueError):
            return {}

    def made_of(self, name: str) -> tuple[str, ...]:
        """Names of the catalogs that were made of catalog ``name``, which they say themselves.

        They have its rows, and values in columns in which it has none, such as zero points give. The current one stands
        first, and then the one that was made last.
        """
        current = self.current
        about = {made: self.about_catalog(made) for made in self.catalogs}
        mine = [made for made, said in about.items() if said.get("made_of") == name]

        def rank(made: str) -> tuple[bool, int]:
            return current == self.catalog(made), int(about[made].get("number", 0))

        return tuple(sorted(mine, key=rank, reverse=True))

    @property
    def next_catalog_number(self) -> int:
        """Number of the next publication."""
        return 1 + max((int(self.about_catalog(name).get("number", 0)) for name in self.catalogs), default=0)

    def catalog_of_release(self, release: str) -> str | None:
        """Name of the catalog whose newest release is ``release``; None if there is none.

        Of several, made with other weights or parameters, that of the current catalog's run; else the one published
        last. If others were made of that one, the first of :meth:`made_of`.
        """
        current = self.current
        run = None if current is None else self.about_catalog(current.name).get("run")
        best: tuple[tuple[bool, int], str] | None = None
        for name in self.catalogs:
            about = self.about_catalog(name)
            if about.get("releases", [])[-1:] == [release]:
                rank = (run is not None and about.get("run") == run, int(about.get("number", 0)))
                best = max(best, (rank, name)) if best else (rank, name)
        if best is None:
            return None
        base = str(self.about_catalog(best[1]).get("made_of", best[1]))
        return next(iter(self.made_of(base)), best[1])

    # Who works on it.

    def run_lock(self, purpose: str) -> AbstractContextManager[None]:
        """Hold the lock of its runs; see :func:`twinlines.pipeline.jobs.locks.lock`."""
        return locks.lock(self.path, purpose)

    def ingest_lock(self, purpose: str) -> AbstractContextManager[None]:
        """Hold the lock of its ingestions."""
        return locks.lock(self.path, purpose, _INGEST_LOCK)

    @property
    def run_by(self) -> str | None:
        """Who computes, in words; None if nobody does."""
        return locks.holder(self.path)

    @property
    def ingested_by(self) -> str | None:
        """Who ingests, in words; None if nobody does."""
        return locks.holder(self.path, _INGEST_LOCK)
