"""What is computed with, loaded: spectral library, tracks, ensemble."""

from __future__ import annotations

from pathlib import Path

from twinlines.models.ensemble import Ensemble
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS
from twinlines.pipeline.stars.tracks import Tracks


def load_library(path: str | Path | None = None) -> Library:
    """Load a spectral library: surface fluxes at R = 7500 for any (Teff, logg, [Fe/H], [alpha/Fe]) in its domain.

    Parameters
    ----------
    path
        A packed library, as 'twinlines library import' makes it; by default the one that ships.

    Raises
    ------
    PackedError
        If the file is missing, damaged, or of another format or version.

    Examples
    --------
    >>> import twinlines as tw
    >>> tw.load_library().flux("B", [[5772.0, 4.44, 0.0, 0.0]]).shape
    (1, 5023)
    """
    return Library.load(path)


def load_tracks(path: str | Path | None = None) -> Tracks:
    """Load stellar tracks: the state of a star of any mass, composition and evolutionary point that they cover.

    Parameters
    ----------
    path
        A store of tracks, as 'twinlines tracks import' makes it; by default the one that ships.

    Raises
    ------
    StoreError
        If the store is missing or damaged.
    SchemaError
        If it is a store of another kind.

    Examples
    --------
    >>> import twinlines as tw
    >>> tw.load_tracks().state(1.0, 0.0, 300.0).teff  # doctest: +SKIP
    """
    return Tracks.load(path)


def load_ensemble(weights: str | Path | None = None, *, device: str = "cpu", precision: str = "float32") -> Ensemble:
    """Load an ensemble of networks, which judges spectra on the arms' grids, at rest and over continuum.

    Parameters
    ----------
    weights
        Folder of its members; by default the one that ships.
    device
        Where it computes, as torch names it.
    precision
        "float32", or "mixed": products of bfloat16 where the device has it.

    Raises
    ------
    CheckpointError
        If there is no such folder, or a file in it is damaged or not for this code.
    EnsembleError
        If the device is a GPU and there is none.

    Examples
    --------
    >>> import twinlines as tw
    >>> tw.load_ensemble().penalties
    (8, 16, 32)
    """
    return Ensemble.load(Path(weights or SHIPPED_WEIGHTS), device=device, precision=precision)
