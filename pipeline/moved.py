"""Where the modules of the former flat package are now: their old names still work, with a warning.

Names of rooms (``catalog``, ``library``, ...) are not here: rooms offer what scripts took from modules of their
names. What was renamed, or was the package's own (``cli.main``, a shard's task), has its new name only.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader
else:  # the real one takes longer to import than all of this; nothing asks for it
    Loader = object

PACKAGE = "twinlines.pipeline"

_ROOMS = {
    "storage": "atomic packed=hashed_npz stores",
    "jobs": "sizing evaluationrun=questions evaluationanswers=answers",
    "stars": (
        "tracks trackmesh=mesh trackstore=store trackfiles=mist_files trackimport=mist_import tracks_hurley=hurley "
        "tracksummary=summary"
    ),
    "library": (
        "libraryformat=packing libraryimport=importing librarycomponents=components librarysource=source ferre "
        "spectrafolder=fits_folder resample"
    ),
    "spectra": "continuum interpolate despike broadening preprocess templates velocity inference",
    "lamost": "mrs=exposures lamost_writer=writer lamost_layout=layout times content=content_hash",
    "synthesis": "priors population extras=beyond_table1 observing",
    "training": "trainingset=recipe trainingconfig=config trainingstore=store",
    "survey": "integrity surveystatus=status publication",
    "ingest": (
        "ingest_index=index ingest_tasks=tasks ingest_rows=rows ingest_report=report filewalk fitsreader=reader"
    ),
    "catalog": "catalogdiff=diff",
    "evaluation": "evaluationtasks=tasks evaluationreport=report twins",
    "mock": "mockplates=plates mockspectra=spectra mockstars=stars comparison demo",
    "testing": "testing_libraries=libraries testing_reader=reader testing_survey=survey testing_tracks=tracks",
    "figures": (
        "trackfigures=tracks libraryfigures=library trainingreport=training_set trainingfigures=learning "
        "evaluationfigures=evaluation"
    ),
    "cli": (
        "cli_options=options cli_tracks=tracks cli_library=library cli_training=training cli_catalog=catalog "
        "cli_cluster=cluster console"
    ),
}

MOVED = {
    old: f"{PACKAGE}.{room}.{new or old}"
    for room, modules in _ROOMS.items()
    for old, _, new in (module.partition("=") for module in modules.split())
}
"""New name of each module that moved whole, by its old name without the package's."""

_MARKERS, _LOCKS, _RUNS, _RELEASES, _PLAN = (
    f"{PACKAGE}.{module}" for module in ("jobs.markers", "jobs.locks", "survey.runs", "survey.releases", "survey.plan")
)
SPLIT = {
    "ledger": {
        "CONFIG_KEY_DIGITS": (_RUNS, "CONFIG_KEY_DIGITS"),
        "LOCK": (_LOCKS, "LOCK"),
        "LedgerError": (_MARKERS, "RecipeError"),
        "Markers": (_MARKERS, "Markers"),
        "Recipe": (_RUNS, "Recipe"),
        "Run": (_RUNS, "SurveyRun"),
        "SurveyLockedError": (_LOCKS, "LockedError"),
        "fingerprint": (_MARKERS, "fingerprint"),
        "holder": (_LOCKS, "holder"),
        "lock": (_LOCKS, "lock"),
        "now": (_MARKERS, "now"),
        "task_key": (_RUNS, "task_key"),
        "versions": (_MARKERS, "versions"),
    },
    "plan": {
        "CHECKSUMS": (_RELEASES, "CHECKSUMS"),
        "Plan": (_PLAN, "Plan"),
        "Release": (_RELEASES, "Release"),
        "ShardTask": (_PLAN, "ShardTask"),
        "SurveyError": (_RELEASES, "SurveyError"),
        "make": (_PLAN, "make"),
    },
}
"""New module and name of what modules that were taken apart held, by their old names."""


class _Moved:
    """Finds the modules of :data:`MOVED` and :data:`SPLIT`, and no other."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, old = name.rpartition(".")
        if package != PACKAGE:
            return None
        if old in MOVED:
            return ModuleSpec(name, _Whole(MOVED[old]))
        return ModuleSpec(name, _Parts(SPLIT[old])) if old in SPLIT else None


class _Whole(Loader):
    """Loads a module's old name: the very module that has the new one."""

    def __init__(self, new: str) -> None:
        self._new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        _warn(f"{spec.name} has moved; import {self._new}")
        module = import_module(self._new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # importing has put the old name's in its place


class _Parts(Loader):
    """Loads the old name of a module whose content is now in several."""

    def __init__(self, places: dict[str, tuple[str, str]]) -> None:
        self._places = places

    def create_module(self, spec: ModuleSpec) -> None:
        modules = sorted({module for module, _ in self._places.values()})
        _warn(f"{spec.name} was taken apart; import {' or '.join(modules)}")

    def exec_module(self, module: ModuleType) -> None:
        for name, (new, attribute) in self._places.items():
            setattr(module, name, getattr(import_module(new), attribute))


def _warn(message: str) -> None:
    warnings.warn(message, DeprecationWarning, stacklevel=3)


def install() -> None:
    """Let ``import`` know the old names; after all other finders, so that it costs nobody else's imports anything."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
