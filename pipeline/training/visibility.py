"""Which binaries of a training set show that they are any: the others teach a network nothing but noise.

A secondary of a thousandth of the light, or one whose lines lie under the primary's, makes a spectrum that is a
single star's for all that anybody can tell. Its label is then a toss of a coin, and with a penalty on single stars such
tosses are most of what moves a network's weights. Left out of the loss, they change nothing about which spectrum is
more likely a binary's: a network without error would order all others alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.models.vocabulary import JOINT
from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.storage import stores

RESOLVED = 40.0
"""Separation at which the lines of two slow rotators stand apart, km/s: a resolution element at R = 7500."""

Columns = dict[str, NDArray[Any]]


def visibility(columns: Columns) -> Columns:
    """About the S/N, in the deepest lines, of what tells the fainter star from the brighter.

    The flux ratio times the S/N, less where lines are not resolved (separation over :data:`RESOLVED` and 0.4 of both
    rotation, squared) and where the fainter star's are washed out by rotation.

    Parameters
    ----------
    columns
        (pair,) each: ``flux_ratio_*``, ``snr_*``, ``separation`` (km/s), ``vsini1``, ``vsini2`` (km/s).

    Returns
    -------
    dict
        By head, (pair,) float64; 0 where there is no second star.
    """
    separation, first, second = (np.nan_to_num(columns[name]) for name in ("separation", "vsini1", "vsini2"))
    resolved = np.minimum(1.0, (np.abs(separation) / (RESOLVED + 0.4 * (first + second))) ** 2)
    visible: Columns = {}
    for arm in ARM_NAMES:
        ratio = np.nan_to_num(columns[f"flux_ratio_{arm}"])
        fainter = np.where(ratio > 1.0, first, second)
        contrast = np.minimum(ratio, 1.0 / np.maximum(ratio, 1e-9))
        visible[arm] = contrast * columns[f"snr_{arm}"] * resolved / (1.0 + fainter / 100.0)
    visible[JOINT] = np.hypot(*(visible[arm] for arm in ARM_NAMES))
    return visible


def weights(pairs: Path, least: float) -> dict[str, NDArray[np.float32]]:
    """Weight of each spectrum of a training set, by head, (pair, 2): 0 for binaries that do not show, else 1.

    Parameters
    ----------
    pairs
        Training store.
    least
        Least visibility of a binary that counts; 0: all do.
    """
    names = [
        "label",
        "separation",
        "vsini1",
        "vsini2",
        *(f"{x}_{arm}" for x in ("flux_ratio", "snr") for arm in ARM_NAMES),
    ]
    columns = stores.read_columns(pairs, names)
    double = columns["label"] > 0
    return {
        head: np.where(double & (visible < least)[:, None], np.float32(0.0), np.float32(1.0))
        for head, visible in visibility(columns).items()
    }
