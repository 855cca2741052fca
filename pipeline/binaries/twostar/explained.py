"""What a two-star fit makes of a spectrum: the spectrum as it was fitted, the light of both stars, and what is left.

From the columns of a fit that is stored; nothing is fitted again but the continuum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName, doppler_factor
from twinlines.pipeline.binaries.twostar.fit import Fitter
from twinlines.pipeline.binaries.twostar.model import LN_AREA, PAIR_PARAMETERS, RV1, RV2, pair_light
from twinlines.pipeline.binaries.twostar.observing import STRIDE, observe
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.synthesis.fitting import project

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Explained:
    """One arm of one exposure beside the best pair of stars."""

    wavelength: Array
    """Heliocentric, in vacuum, Angstrom; (pixel,)."""
    flux: Array
    """Flux over the continuum of the fit; NaN where a pixel took no part."""
    model: Array
    """Light of both stars over the same continuum."""
    residual: Array
    """Flux less model over its standard deviation; NaN where a pixel took no part."""


@one_thread()
def explained(spectra: xr.Dataset, fits: xr.Dataset) -> dict[ArmName, list[Explained | None]]:
    """Light of the pairs that fits found, beside the spectra.

    Parameters
    ----------
    spectra
        Rows of :data:`twinlines.pipeline.schema.EXPOSURES`.
    fits
        Rows with the columns of :data:`twinlines.pipeline.binaries.schema.FITS` of the same exposures, in their order.

    Returns
    -------
    dict
        By arm, for each exposure; None where the arm took no part, or nothing was fitted.
    """
    lights = Fitter.default().lights
    rows = spectra.sizes["exposure"]
    frame = np.nan_to_num((fits["rv1"].values + fits["rv2"].values).astype(np.float64) / 2.0)
    parameters = torch.zeros((rows, len(PAIR_PARAMETERS)), dtype=torch.float64)
    for place, name in enumerate(PAIR_PARAMETERS):
        if name not in ("ln_area", "offset"):
            parameters[:, place] = torch.from_numpy(fits[name].values.astype(np.float64))
    parameters[:, -1] = torch.from_numpy(np.nan_to_num(fits["arm_offset"].values.astype(np.float64)))
    parameters[:, [RV1, RV2]] -= torch.from_numpy(frame)[:, None]
    ratio = {name: fits[f"flux_ratio_{name}"].values.astype(np.float64) for name in ARM_NAMES}
    usable = np.isfinite(parameters.numpy()).all(axis=1)
    seen = observe({name: ArmSpectra.of(name, spectra).observe(name) for name in ARM_NAMES}, frame)
    told: dict[ArmName, list[Explained | None]] = {}
    for name in ARM_NAMES:
        told[name] = [None] * rows
        there = usable & np.isfinite(ratio[name]) & (ratio[name] > 0.0) & (seen[name].weight > 0.0).any(dim=1).numpy()
        chosen = np.flatnonzero(there)
        if not len(chosen):
            continue
        which = torch.from_numpy(chosen)
        mine, observed = parameters[which], seen[name].clean().take(which)
        # Stored is the flux ratio, which is the areas' times a number that the other parameters decide.
        alike = pair_light(lights[name], name, mine).ratio.double()
        mine[:, LN_AREA] = torch.log(torch.from_numpy(ratio[name][chosen]) / alike)
        light = pair_light(lights[name], name, mine).light
        projected = project(observed, light)
        grid = ARMS[name].wavelength[::STRIDE]
        # The continuum is that of the arm's highest light, so that both curves begin at 1.
        top = torch.quantile(light.flux, 0.95, dim=1, keepdim=True)
        continuum = projected.continuum * top
        part = observed.weight > 0.0
        flux = torch.where(part, observed.flux / continuum, torch.nan)
        residual = torch.where(part, projected.residual, torch.nan)
        for place, row in enumerate(chosen.tolist()):
            told[name][row] = Explained(
                wavelength=grid * doppler_factor(frame[row : row + 1])[0],
                flux=flux[place].double().numpy(),
                model=(light.flux[place] / top[place]).double().numpy(),
                residual=residual[place].double().numpy(),
            )
    return told
