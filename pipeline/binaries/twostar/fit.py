"""Fits two stars to exposures: from spectra as stored to two velocities, and what the fit does not tell.

A pure function of exposures; :mod:`twinlines.pipeline.binaries.fits.survey` runs it over a survey, ``fit_pair`` on
spectra at hand. It must never know a network's verdict: the fit is a witness of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.binaries.schema import FITS, NO_SECOND_STAR, FitQuality
from twinlines.pipeline.binaries.twostar import starts
from twinlines.pipeline.binaries.twostar.model import (
    OFFSET,
    PAIR_PARAMETERS,
    RV1,
    RV2,
    SPINS,
    PairFit,
    fit_pairs,
    fit_single,
    pair_light,
)
from twinlines.pipeline.binaries.twostar.observing import STRIDE, observe
from twinlines.pipeline.lamost.moonlight import moonlight_velocity
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import MINIMUM_SNR
from twinlines.pipeline.spectra import velocity
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.spectra.judging import exposures_of
from twinlines.pipeline.spectra.preprocess import Observed
from twinlines.pipeline.spectra.templates import Templates
from twinlines.pipeline.synthesis.fitting import Observation
from twinlines.pipeline.synthesis.starlight import FASTEST, VELOCITY, VSINI, Starlight, starlight

NUMERICS = 4
"""Numerical version of this fit: raised with every change that alters a result."""

BATCH = 32
"""Exposures that are fitted together."""

EXPECTED = 0.775
"""chi2 over pixels of a spectrum that the library explains but for photon noise: the filter's noise is not independent
from pixel to pixel (measured on mock spectra at S/N 10 to 100)."""

DOUBLE = 40.0
"""``delta_chi2_diluted``, over how much worse than noise the best pair fits, from which on an exposure shows two stars.
Noise alone makes it 10 or so; lines that the library has wrong make more of it in real single stars."""

SEPARATED = 3.0
"""Standard errors by which the velocities of an exposure that shows two stars differ at least: two spectra at one
velocity may be one star that the library describes badly."""

THIRD, THIRD_SHARE = 70.0, 0.2
"""The same as :data:`DOUBLE` of a third star, and what it takes of chi2, at least, over ``delta_chi2``."""

RIVAL = 9.0
"""chi2, over the same, by which another pair of velocities may be worse and still be a rival."""

APART = 10.0
"""Velocities that differ by less are the same, km/s."""

RESOLUTION = 40.0
"""Separation at which lines of slow rotators stand apart, km/s: a resolution element at R = 7500."""

MOONLIT, SUNLIKE = 8.0, 800.0
"""How far the second star may be from the Moon's light, beside two standard errors: km/s, which is what zero points of
spectrographs and exposures leave, and K, from the Sun's temperature."""

_SUN = 5772.0  # K
_MJD = 2400000.5


@lru_cache(maxsize=2)
def _lights(library: Library) -> dict[ArmName, Starlight]:
    return {name: starlight(library, name, STRIDE) for name in ARM_NAMES}


@dataclass(frozen=True, eq=False)
class Fitter:
    """What a worker keeps between tasks: the light of the library's stars, and the templates for first velocities."""

    lights: Mapping[ArmName, Starlight]
    """Light of single stars by arm."""
    templates: Templates
    """Templates for velocities."""

    @classmethod
    @one_thread()
    def default(cls) -> Fitter:
        """That of the library that ships; made once in a process."""
        return cls(_lights(Library.load()), Templates.default())

    @one_thread()
    def __call__(self, block: xr.Dataset) -> xr.Dataset:
        """Fit exposures.

        Parameters
        ----------
        block
            Rows of :data:`twinlines.pipeline.schema.EXPOSURES`.

        Returns
        -------
        xr.Dataset
            Rows of :data:`.schema.FITS`, in the same order; NaN where nothing could be fitted.
        """
        rows = block.sizes["exposure"]
        columns: dict[str, NDArray[Any]] = {name: variable.empty((rows,)) for name, variable in FITS.variables.items()}
        for name in ("obsid", "lmjm", "bjdmid", "content_hash"):
            columns[name] = block[name].values
        for start in range(0, rows, BATCH):
            some = slice(start, min(start + BATCH, rows))
            fitted = self._fit({name: ArmSpectra.of(name, block.isel(exposure=some)) for name in ARM_NAMES})
            for name, values in fitted.items():
                columns[name][some] = values
        # Eight minutes of light travel do not matter to where the Moon is.
        moon = moonlight_velocity(block["bjdmid"].values - _MJD, block["ra"].values, block["dec"].values)
        columns["fit_quality"][moonlit(columns, moon)] |= np.uint16(FitQuality.MOONLIGHT)
        return FITS.dataset(columns, rows)

    def _fit(self, spectra: Mapping[ArmName, ArmSpectra]) -> dict[str, NDArray[Any]]:
        """Columns of a batch of exposures; NaN, and a bit, for those without a usable arm."""
        observed = {name: mine.observe(name) for name, mine in spectra.items()}
        frame, teff = self._first_look(observed, {name: mine.snr > MINIMUM_SNR for name, mine in spectra.items()})
        seen = {
            name: _without_faint(each.clean(), spectra[name].snr) for name, each in observe(observed, frame).items()
        }
        there = {name: (each.weight > 0.0).any(dim=1) for name, each in seen.items()}
        usable = torch.stack(list(there.values())).any(dim=0)
        rows = torch.nonzero(usable)[:, 0]
        count = len(frame)
        quality = np.full(count, FitQuality.NO_SPECTRUM, np.uint16)
        if not len(rows):
            return {"fit_quality": quality}
        mine = {name: each.take(rows) for name, each in seen.items()}
        chosen = rows.numpy()
        single = fit_single(self.lights, mine, starts.single_starts(np.zeros(len(rows)), teff[chosen]))
        first_peaks = starts.peaks(self.lights, starts.left_of_single(self.lights, mine, single))
        fit = fit_pairs(self.lights, mine, single, starts.pair_starts(single, first_peaks))
        columns = _columns(fit, frame[chosen], {name: seen_there[rows] for name, seen_there in there.items()})
        third = self._third(fit, mine)
        columns["delta_chi2_third"] = third
        bits = _quality(fit, third)
        bits |= np.where(torch.stack(list(there.values()))[:, rows].all(dim=0), 0, FitQuality.ONE_ARM).astype(np.uint16)
        quality[chosen] = bits
        placed: dict[str, NDArray[Any]] = {}
        for name, values in columns.items():
            placed[name] = FITS.variables[name].empty((count,))
            placed[name][chosen] = values
        return {**placed, "fit_quality": quality}

    def _first_look(
        self, observed: Mapping[ArmName, Observed], bright: Mapping[ArmName, NDArray[np.bool_]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Velocity and Teff by correlation: of the blue arm, else of the red one, else 0 and NaN."""
        frame = teff = np.full(len(next(iter(bright.values()))), np.nan)
        for name in ARM_NAMES:
            if not (bright[name] & ~np.isfinite(frame)).any():
                continue  # the other arm has told all
            each = observed[name]
            found = velocity.measure(
                name, each.wavelength, each.normalised, each.normalised_sigma, self.templates, each.bad
            )
            new = ~np.isfinite(frame) & bright[name]
            frame, teff = np.where(new, found.velocity, frame), np.where(new, found.teff, teff)
        return np.where(np.isfinite(frame), frame, 0.0), teff

    def _third(self, fit: PairFit, observed: Mapping[ArmName, Observation]) -> NDArray[np.float64]:
        """What a third star's lines would take from chi2, about, (exposure,)."""
        left = {
            name: starts.Left.of(spectra, pair_light(self.lights[name], name, fit.parameters).light.flux)
            for name, spectra in observed.items()
        }
        return starts.peaks(self.lights, left, fit.parameters[:, [RV1, RV2]]).gain[:, 0].numpy()


def _without_faint(spectra: Observation, snr: NDArray[np.float32]) -> Observation:
    """Spectra of which those of too low S/N take no part, as they have no verdict."""
    return Observation(spectra.flux, torch.where(torch.from_numpy(snr > MINIMUM_SNR)[:, None], spectra.weight, 0.0))


def worse_than_noise(fit: PairFit) -> Tensor:
    """chi2 of the best pair over what noise alone makes it, at least 1, (exposure,) float64.

    Where the library's lines are not the star's, residuals are larger than noise, and errors and thresholds with them.
    """
    return (fit.chi2 / (EXPECTED * fit.pixels).clamp_min(1.0)).clamp_min(1.0)


def moonlit(columns: Mapping[str, NDArray[Any]], moon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the second star of fits may be the Moon's light, (exposure,).

    Parameters
    ----------
    columns
        Columns of :data:`.schema.FITS`, (exposure,).
    moon
        (exposure,) :func:`.moonlight_velocity`, km/s; NaN where there is none.
    """
    two = (columns["fit_quality"] & NO_SECOND_STAR) == 0
    may_be = np.zeros(len(moon), bool)
    for star, wanted in (("2", two), ("1", two & ((columns["fit_quality"] & FitQuality.ALIKE) > 0))):
        off, hotter = np.abs(columns[f"rv{star}"] - moon), np.abs(columns[f"teff{star}"] - _SUN)
        near = off <= MOONLIT + 2.0 * np.nan_to_num(columns[f"rv{star}_err"])
        may_be |= wanted & near & (hotter <= SUNLIKE + 2.0 * np.nan_to_num(columns[f"teff{star}_err"]))
    return may_be


def _columns(fit: PairFit, frame: NDArray[np.float64], there: Mapping[ArmName, Tensor]) -> dict[str, NDArray[Any]]:
    scale = worse_than_noise(fit)
    variance = fit.covariance.diagonal(dim1=1, dim2=2) * scale[:, None]
    columns: dict[str, NDArray[Any]] = {}

    def put(name: str, place: int, shift: NDArray[np.float64] | float = 0.0) -> None:
        columns[name] = fit.parameters[:, place].numpy() + shift
        columns[f"{name}_err"] = variance[:, place].sqrt().numpy()

    for place, name in enumerate(PAIR_PARAMETERS):
        if name not in ("ln_area", "offset"):
            put(name, place, frame if place in (RV1, RV2) else 0.0)
    put("arm_offset", OFFSET)
    columns["rv_covariance"] = (fit.covariance[:, RV1, RV2] * scale).numpy()
    for arm in fit.flux_ratio:  # that of an arm that was not seen would be the library's guess
        columns[f"flux_ratio_{arm}"] = torch.where(there[arm], fit.flux_ratio[arm], torch.nan).numpy()
        error = fit.flux_ratio_error[arm] * scale.sqrt()
        columns[f"flux_ratio_{arm}_err"] = torch.where(there[arm], error, torch.nan).numpy()
    single = fit.single
    columns["rv_single"] = single.parameters[:, VELOCITY].numpy() + frame
    columns["rv_single_err"] = (single.covariance[:, VELOCITY, VELOCITY] * scale).sqrt().numpy()
    columns["vsini_single"], columns["teff_single"] = (
        single.parameters[:, VSINI].numpy(),
        single.parameters[:, 0].numpy(),
    )
    columns["chi2"] = (fit.chi2 / (EXPECTED * fit.pixels)).numpy()
    columns["delta_chi2_diluted"] = fit.delta_chi2_diluted.numpy()
    columns["delta_chi2"], columns["fit_pixels"] = fit.delta_chi2.numpy(), fit.pixels.numpy()
    return columns


def _quality(fit: PairFit, third: NDArray[np.float64]) -> NDArray[np.uint16]:
    scale = worse_than_noise(fit)
    variance = fit.covariance.diagonal(dim1=1, dim2=2)
    rv1, rv2 = fit.parameters[:, RV1], fit.parameters[:, RV2]
    apart = (rv2 - rv1).abs()
    rival = torch.sort(fit.rival[:, [RV1, RV2]], dim=1).values - torch.sort(fit.parameters[:, [RV1, RV2]], dim=1).values
    error = (scale * (variance[:, RV1] + variance[:, RV2] - 2.0 * fit.covariance[:, RV1, RV2])).sqrt()
    # Slow rotation is at its lower limit as it should be, and labels at one mean little for velocities.
    watched = [PAIR_PARAMETERS.index(name) for name in ("teff1", "teff2", "rv1", "rv2", "ln_area", "offset")]
    ratio, ratio_error = (torch.stack(list(of.values())) for of in (fit.flux_ratio, fit.flux_ratio_error))
    double = (fit.delta_chi2_diluted >= DOUBLE * scale) & (apart >= SEPARATED * error)
    lines_of_third = torch.from_numpy(third) > torch.maximum(THIRD * scale, THIRD_SHARE * fit.delta_chi2)
    conditions = {
        FitQuality.NOT_CONVERGED: ~fit.converged | ~fit.chi2.isfinite(),
        FitQuality.AT_LIMIT: fit.at_limit[:, watched].any(dim=1) | (fit.parameters[:, SPINS] >= FASTEST).any(dim=1),
        FitQuality.RIVAL: (fit.rival_chi2 - fit.chi2 < RIVAL * scale) & (rival.abs() > APART).any(dim=1),
        FitQuality.UNRESOLVED: apart < RESOLUTION + 0.4 * fit.parameters[:, SPINS].sum(dim=1),
        FitQuality.NOT_DOUBLE: ~double,
        FitQuality.THIRD_STAR: double & lines_of_third,
        FitQuality.ALIKE: ((1.0 - ratio) < ratio_error * scale.sqrt()).any(dim=0),
    }
    bits = np.zeros(len(apart), np.uint16)
    for bit, holds in conditions.items():
        bits |= np.where(holds.numpy(), bit, 0).astype(np.uint16)
    return bits


def fit_pair(spectra: xr.Dataset) -> xr.Dataset:
    """Fit two stars to exposures: whose lines are where, and how much better two stars explain them than one.

    Parameters
    ----------
    spectra
        Rows of :data:`twinlines.pipeline.schema.EXPOSURES`, as :func:`twinlines.read_lamost` reads them; a single
        exposure may lack the dimension.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.binaries.schema.FITS`, in the same order: velocities (``rv1``, ``rv2``, km/s)
        with errors, flux ratios, ``delta_chi2``, and bits of ``fit_quality``
        (:class:`~twinlines.pipeline.binaries.schema.FitQuality`).

    Raises
    ------
    SchemaError
        If ``spectra`` are no exposures.

    Examples
    --------
    >>> import twinlines as tw
    >>> fit = tw.fit_pair(tw.read_lamost("med-58646-TD192102N424113K01_sp12-076.fits.gz"))  # doctest: +SKIP
    >>> fit.rv2 - fit.rv1  # doctest: +SKIP
    """
    return Fitter.default()(exposures_of(spectra).load())
