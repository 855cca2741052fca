"""The star of a mock release that shows best what an SB2 is: a few of its exposures, as the networks saw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName
from twinlines.pipeline.mock.comparison import Comparison
from twinlines.pipeline.mock.stars import SB2
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.spectra import preprocess
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.storage import stores

_EPOCHS = 5  # of the star whose spectra are shown


@dataclass(frozen=True)
class Epoch:
    """What is shown of one exposure."""

    label: str
    """When it was, or what is said about it."""
    flux: Mapping[ArmName, NDArray[np.float32]]
    """Flux over continuum by arm, on the arm's grid."""
    probability: Mapping[ArmName, float]
    """Median binary probability by arm."""
    velocities: Mapping[ArmName, Sequence[float]]
    """Velocities of the stars in the frame of the spectrum by arm, km/s; one or two."""


@dataclass(frozen=True)
class Showpiece:
    """One star at several epochs."""

    title: str
    """Which star, and of what kind."""
    epochs: tuple[Epoch, ...]
    """Its exposures, by rising separation of the two velocities."""


def showpiece(comparison: Comparison, store: Path) -> Showpiece | None:
    """Choose the SB2 that shows best what an SB2 is, and read up to five of its exposures; None without a judged SB2.

    Parameters
    ----------
    comparison
        The catalog against the truth.
    store
        The mock release's exposures, of :data:`twinlines.pipeline.schema.EXPOSURES`.
    """
    rows = _choose(comparison)
    if not len(rows):
        return None
    table = comparison.exposures
    data = {name: np.asarray(table[name]) for name in table.colnames}
    first = rows[0]
    title = (
        f"Mock SB2 {data['star'][first]}: q = {data['q'][first]:.2f}, P = {data['period'][first]:.2f} d, "
        f"{data['teff1'][first]:.0f} + {data['teff2'][first]:.0f} K"
    )
    return Showpiece(title, tuple(_epochs(store, data, rows)))


def _choose(comparison: Comparison) -> NDArray[np.int64]:
    """Rows of up to five judged exposures, evenly spread in separation, of the SB2 that shows best what an SB2 is.

    That is one whose lines part and meet, with good S/N, a bright secondary, sharp lines, and warm enough for H-alpha.
    """
    table = comparison.exposures
    data = {name: table[name].data for name in ("star", "delta_v", "snr_B", "light_ratio_B", "vsini1", "teff1")}
    best, rows = 0.0, np.empty(0, dtype=np.int64)
    for star in np.unique(data["star"][table["kind"].data == SB2]).tolist():
        mine = np.flatnonzero((data["star"] == star) & comparison.judged)
        if not len(mine):
            continue
        value = (1.0 + np.ptp(np.abs(data["delta_v"][mine]))) * np.clip(np.median(data["snr_B"][mine]), 1.0, 40.0)
        value *= data["light_ratio_B"][mine[0]] / max(15.0, data["vsini1"][mine[0]])
        value *= 1.0 if data["teff1"][mine[0]] > 5300.0 else 0.3
        if value > best:
            best, rows = float(value), mine
    if not len(rows):
        return rows
    separation = np.abs(data["delta_v"][rows])
    wanted = np.linspace(separation.min(), separation.max(), _EPOCHS)
    nearest = np.unique(np.argmin(np.abs(separation[:, None] - wanted[None, :]), axis=0))
    return np.asarray(rows[nearest[np.argsort(separation[nearest])]], dtype=np.int64)


def _epochs(store: Path, data: dict[str, NDArray[Any]], rows: NDArray[np.int64]) -> list[Epoch]:
    """Spectra of the exposures at ``rows``, as the networks saw them but without their clipping."""
    with stores.open_store(store, EXPOSURES) as exposures:
        keys = list(zip(exposures["obsid"].values.tolist(), exposures["lmjm"].values.tolist(), strict=True))
        places = [keys.index((int(data["obsid"][row]), int(data["lmjm"][row]))) for row in rows]
        block = exposures.isel(exposure=places).load()
    fluxes = {name: _rest_frame(name, block, data, rows) for name in ARM_NAMES}
    shown = []
    for number, row in enumerate(rows.tolist()):
        label = f"BJD {data['bjdmid'][row]:.3f}, Δv {data['delta_v'][row]:+.0f} km/s, S/N {data['snr_B'][row]:.0f}"
        shown.append(
            Epoch(
                label=label,
                flux={name: fluxes[name][number] for name in ARM_NAMES},
                probability={name: float(data[f"p50_{name}"][row]) for name in ARM_NAMES},
                velocities={
                    name: [float(data[star][row] - data[f"rv_obs_{name}"][row]) for star in ("v1", "v2")]
                    for name in ARM_NAMES
                },
            )
        )
    return shown


def _rest_frame(
    name: ArmName, block: xr.Dataset, data: dict[str, NDArray[Any]], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Normalised spectra of one arm in the measured rest frame, (exposure, pixel)."""
    rest = preprocess.to_rest_frame(ARMS[name], ArmSpectra.of(name, block).observe(name), data[f"rv_obs_{name}"][rows])
    return np.asarray(rest.flux.numpy(), dtype=np.float32)
