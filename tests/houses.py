"""The houses and rooms that the package is made of, and their order; what tests of imports and of pages go by."""

from __future__ import annotations

from tests.places import ROOT

HOUSES = {
    "cluster": {"cluster"},
    "models": {"models"},
    "pipeline": {"pipeline", "models", "cluster"},
    "front": {"front", "pipeline", "models", "cluster"},
}
"""Houses, and those that each may import; ``front`` is the package ``twinlines`` itself, which none imports."""

ROOMS = (
    *("storage", "jobs", "usertables", "stars", "library", "spectra", "lamost", "synthesis", "training"),
    *(
        "survey",
        "ingest",
        "catalog",
        "evaluation",
        "binaries",
        "validation",
        "report",
        "mock",
        "testing",
        "figures",
        "cli",
    ),
)
"""Rooms of the pipeline from the bottom to the top; each imports the modules beside them and the rooms before it."""

MODULES = sorted(path for house in HOUSES for path in (ROOT / house).rglob("*.py"))
"""Files of all modules."""
