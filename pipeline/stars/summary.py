"""What a set of tracks covers, for people and for scripts: compositions, their masses, how far tracks go."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twinlines.pipeline.stars.tracks import Tracks


@dataclass(frozen=True)
class Composition:
    """The tracks of one composition."""

    feh: float
    """[Fe/H], dex."""
    alpha: float
    """[alpha/Fe], dex."""
    tracks: int
    """Number of tracks."""
    mass_low: float
    """Least initial mass, solar masses."""
    mass_high: float
    """Greatest initial mass, solar masses."""
    widest_gap: float
    """Greatest step between neighbouring masses, solar masses; 0 for a single track."""
    last_eep_low: int
    """Last EEP of the shortest track."""
    last_eep_high: int
    """Last EEP of the longest track."""


@dataclass(frozen=True)
class TrackSummary:
    """What a set of tracks covers."""

    digest: str
    """Content hash of the tracks."""
    first_eep: int
    """First EEP of all tracks."""
    compositions: list[Composition]
    """Compositions, sorted by ([Fe/H], [alpha/Fe])."""
    holes: list[tuple[float, float]]
    """([Fe/H], [alpha/Fe]) missing from the rectangle of compositions: stars that need them have no state."""

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON-serialisable values."""
        return asdict(self)


def summarise(tracks: Tracks) -> TrackSummary:
    """Say what ``tracks`` cover."""
    last_eep = tracks.eep[tracks.length - 1]
    compositions, holes = [], []
    for feh in tracks.mesh.feh.tolist():
        for alpha in tracks.mesh.alpha.tolist():
            rows = np.flatnonzero((tracks.feh == feh) & (tracks.alpha == alpha))
            if not rows.size:
                holes.append((feh, alpha))
                continue
            masses, last = tracks.mass[rows], last_eep[rows]
            gap = round(float(np.diff(masses).max(initial=0.0)), 6)
            compositions.append(
                Composition(
                    *(feh, alpha, rows.size),
                    *(float(masses[0]), float(masses[-1]), gap),
                    *(round(last.min()), round(last.max())),
                )
            )
    return TrackSummary(tracks.digest, round(tracks.eep[0]), compositions, holes)
