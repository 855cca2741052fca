"""Judges spectra that are at hand, in this process: those of a survey, or anybody's arrays.

The verdict on an exposure is, bit for bit, that of a survey's run: the same inference, block by block, on one thread.
"""

from __future__ import annotations

import hashlib
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlines.models import checkpoint
from twinlines.models.precision import quickest
from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ARMS, Arm, ArmName, air_to_vacuum
from twinlines.pipeline.arms import arm as arm_called
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import EXPOSURES, RESULTS, Quality, SchemaError
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, ArmSpectra, Inference, InferenceParameters
from twinlines.pipeline.spectra.preprocess import CUSHION
from twinlines.pipeline.spectra.templates import Templates
from twinlines.pipeline.spectra.velocity import correlate

BLOCK_ROWS = EXPOSURES.chunk_rows
"""Exposures that are in memory at a time, where the Dataset itself is not."""

AIR_SHIFT = -83.2
"""Velocity that a star at rest seems to have where wavelengths in air are taken for those in vacuum, km/s."""

_PLAIN = 1e-6, 1e12
"""Between these, the median of a flux is as good a unit as any; beyond, spectra get one of their own."""

_LARGEST = float(np.finfo(np.float32).max)

_AIR_RANGE = 6.0
"""By how much a velocity may differ from :data:`AIR_SHIFT` and be suspected, km/s."""

_LABELS = {"teff": "K", "logg": "", "feh": "", "alpha": "", "vsini": "km s-1"}


class SpectrumError(ValueError):
    """Arrays are no spectra that can be judged."""


class AirWarning(UserWarning):
    """Wavelengths may be those in air."""


@lru_cache(maxsize=2)
def _inference(weights: Path, digest: str, parameters: InferenceParameters, device: str) -> Inference:
    return Inference.load(weights, digest, parameters, device)


def _inference_of(weights: str | Path | None, parameters: InferenceParameters | None, device: str) -> Inference:
    folder = Path(weights or SHIPPED_WEIGHTS).resolve()
    usual = InferenceParameters(precision=quickest(device))
    return _inference(folder, checkpoint.digest(folder), parameters or usual, device)


def judge(
    spectra: xr.Dataset,
    *,
    weights: str | Path | None = None,
    parameters: InferenceParameters | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> xr.Dataset:
    """Measure the velocities of exposures, and judge whether they show one star or two.

    Computes on one thread, as a survey's workers do, so that the result is theirs to the last bit; the number of the
    process's threads is the same afterwards. The first call loads the ensemble, which later ones share.

    Parameters
    ----------
    spectra
        Rows of :data:`twinlines.pipeline.schema.EXPOSURES`, as :func:`twinlines.read_lamost` reads them or a survey's
        release stores them; a single exposure may lack the dimension. Any number: what is not loaded is read in blocks.
    weights
        Folder of an ensemble; by default the one that ships.
    parameters
        Seed and number of draws, least S/N, precision; by default those of a survey's first run on this hardware. Of
        another one, they are the attribute ``parameters`` of its catalog.
    device
        Where the networks compute, "cpu" or "cuda".
    progress
        Called with (stage, done, total) after each block of 256; ``print`` will do.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.schema.RESULTS`, in the same order: velocities (``rv_obs_B``, km/s),
        percentiles of the binary probability (``pb_pct_B_16``, penalty 16), quality bits (``quality_B``; see
        :func:`twinlines.explain`), for both arms.

    Raises
    ------
    SchemaError
        If ``spectra`` are no exposures.
    CheckpointError, EnsembleError
        If there are no such weights, or they or the device do not fit.

    Examples
    --------
    >>> import twinlines as tw
    >>> verdict = tw.judge(tw.read_lamost("med-58646-TD192102N424113K01_sp12-076.fits.gz"))  # doctest: +SKIP
    >>> verdict.pb_pct_B_16.sel(percentile=50)  # doctest: +SKIP
    """
    spectra = exposures_of(spectra)
    infer = _inference_of(weights, parameters, device)
    rows = spectra.sizes["exposure"]
    blocks = []
    for start in range(0, max(rows, 1), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, rows)
        blocks.append(infer(spectra.isel(exposure=slice(start, stop)).load()))
        progress("exposures", stop, rows)
    columns = {name: np.concatenate([block[name].values for block in blocks]) for name in RESULTS.variables}
    return RESULTS.dataset(columns, rows)


def exposures_of(spectra: xr.Dataset) -> xr.Dataset:
    """``spectra`` with the dimension ``exposure``, which a single one may lack.

    Raises
    ------
    SchemaError
        If they are not of :data:`twinlines.pipeline.schema.EXPOSURES`.
    """
    if not isinstance(spectra, xr.Dataset):
        raise SchemaError(
            f"these are no exposures but {type(spectra).__name__}; read files by read_lamost, or give arrays to "
            "judge_arrays"
        )
    if "exposure" not in spectra.dims and "obsid" in spectra and not spectra["obsid"].dims:
        spectra = spectra.expand_dims("exposure")
    EXPOSURES.validate(spectra)
    return spectra


def judge_arrays(
    arm: ArmName,
    wavelength: ArrayLike,
    flux: ArrayLike,
    ivar: ArrayLike | None = None,
    *,
    sigma: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    air: bool = False,
    weights: str | Path | None = None,
    parameters: InferenceParameters | None = None,
    device: str = "cpu",
) -> xr.Dataset:
    """Judge spectra of one arm that come from anywhere, at a resolving power of about 7500.

    Each gets a key made from its content, so that the same spectrum gets the same noise and the same verdict. Its S/N
    is the median of flux over sigma. As of a survey's spectra, 70 pixels at each end do not count.

    Parameters
    ----------
    arm
        "B" (needs 5000 to 5300 Angstrom, and what a star's velocity shifts there) or "R" (6350 to 6750).
    wavelength
        (pixel,) or (spectrum, pixel), Angstrom, in vacuum, heliocentric.
    flux
        (pixel,) for one spectrum or (spectrum, pixel) for many, any number of pixels; plain numbers in any unit, not
        normalised or normalised. NaN, or masked, where a pixel is not to be used.
    ivar
        Inverse variance of the flux, of any shape that broadcasts to the flux's: a number will do.
    sigma
        Standard deviation of the flux, instead of ``ivar``.
    mask
        (spectrum, pixel) or (pixel,); a pixel that is not 0 or False counts as bad.
    air
        Whether the wavelengths are those in air.
    weights, parameters, device
        As for :func:`twinlines.judge`.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.schema.RESULTS`; of the other arm they say that there is none.

    Raises
    ------
    SpectrumError
        If shapes do not fit, an array has a unit, wavelengths are not finite, in another unit or do not cover the arm,
        or both ``ivar`` and ``sigma`` are named, or neither.

    Warns
    -----
    AirWarning
        If the velocities are what wavelengths in air would make of stars at rest, and ``air`` is False.

    Examples
    --------
    >>> import twinlines as tw
    >>> verdict = tw.judge_arrays("B", wavelength, flux, sigma=0.02)  # doctest: +SKIP
    """
    which = arm_called(arm)
    spectra = _spectra_of(which, wavelength, flux, ivar, sigma, mask, air)
    rows = len(spectra.flux)
    content = np.array([_content(which, spectra, row) for row in range(rows)], dtype=np.uint64)
    keys = np.stack([(content >> np.uint64(1)).astype(np.int64), np.zeros(rows, dtype=np.int64)], axis=1)
    infer = _inference_of(weights, parameters, device)
    parts = [
        infer.judge({which.name: spectra.take(block)}, keys[block])
        for block in np.split(np.arange(rows), range(BLOCK_ROWS, rows, BLOCK_ROWS))
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns |= {"obsid": keys[:, 0], "content_hash": content}
    for other in ARM_NAMES:
        if other != which.name:
            columns[f"quality_{other}"] = np.full(rows, Quality.NO_ARM, dtype=np.uint16)
            columns[f"npixbad_{other}"] = np.full(rows, ARMS[other].n_pixels, dtype=np.int32)
    if not air:
        _suspect_air(columns[f"rv_obs_{which.name}"])
    return RESULTS.dataset(columns, rows)


def _spectra_of(
    which: Arm,
    wavelength: ArrayLike,
    flux: ArrayLike,
    ivar: ArrayLike | None,
    sigma: ArrayLike | None,
    mask: ArrayLike | None,
    air: bool,
) -> ArmSpectra:
    """Arrays as an arm's spectra, checked."""
    values = np.atleast_2d(_plain("flux", flux))
    if values.ndim != 2 or values.shape[1] <= 2 * CUSHION:
        raise SpectrumError(
            f"flux has shape {np.shape(flux)}; expected (pixel,) or (spectrum, pixel), with more than {2 * CUSHION} "
            "pixels"
        )
    if (ivar is None) == (sigma is None):
        raise SpectrumError("the noise must be known by ivar or by sigma; give one of them, a number will do")
    if ivar is None:
        deviation = _like(values, "sigma", sigma)
        if deviation.size and not (deviation > 0.0).any():
            raise SpectrumError(f"sigma is {np.ravel(deviation)[:1]} and nowhere above 0; give standard deviations")
        with np.errstate(divide="ignore"):
            ivar = np.where(deviation > 0.0, deviation**-2.0, 0.0)
    inverse = _like(values, "ivar", ivar)
    waves = _like(values, "wavelength", wavelength)
    if not (np.isfinite(waves) & (waves > 0.0)).all():
        row, pixel = np.argwhere(~(np.isfinite(waves) & (waves > 0.0)))[0]
        raise SpectrumError(
            f"the wavelength of pixel {pixel} of spectrum {row} is {waves[row, pixel]}; cut such pixels off, or "
            "interpolate, and set their flux to NaN"
        )
    if air:
        waves = np.asarray(air_to_vacuum(waves))
    _require_cover(which, waves)
    # Spectra are judged in single precision, which holds neither 1e-40 nor 1e40: in a unit of their own it does.
    unit = np.array([_unit(row) for row in values]).reshape(-1, 1)
    with np.errstate(over="ignore"):
        values, inverse = (values / unit).astype(np.float32), inverse * unit**2
    inverse = np.where(inverse < _LARGEST, inverse, 0.0)
    used = np.isfinite(values) & np.isfinite(inverse) & (inverse > 0.0)
    # A spectrum without a pixel has an S/N of zero, not none: there is such an arm.
    ratio = np.where(used, values * np.sqrt(np.where(used, inverse, 0.0)), np.nan)
    snr = [np.median(row[good]) if good.any() else 0.0 for row, good in zip(ratio, used, strict=True)]
    return ArmSpectra(
        flux=values,
        ivar=inverse.astype(np.float32),
        loglam=np.log10(waves),
        mask=(_like(values, "mask", 0 if mask is None else mask) != 0).astype(np.uint8),
        snr=np.array(snr, dtype=np.float32),
    )


def _unit(flux: NDArray[np.float64]) -> float:
    """A unit for a spectrum: 1, unless its numbers are far from it."""
    typical = np.abs(flux[np.isfinite(flux) & (flux != 0.0)])
    median = float(np.median(typical)) if typical.size else 1.0
    return 1.0 if _PLAIN[0] <= median <= _PLAIN[1] else median


def _plain(what: str, values: ArrayLike | None) -> NDArray[np.float64]:
    """Numbers without a unit or a mask; what is masked is NaN."""
    unit = getattr(values, "unit", None)
    if unit is not None:
        raise SpectrumError(
            f"{what} has the unit {unit}; give numbers: wavelengths in Angstrom, and errors in the flux's unit"
        )
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    return np.asarray(values, dtype=np.float64)


def _like(flux: NDArray[np.float64], what: str, values: ArrayLike | None) -> NDArray[np.float64]:
    """``values`` as numbers of the flux's shape."""
    numbers = _plain(what, values)
    try:
        return np.broadcast_to(numbers, flux.shape)
    except ValueError as error:
        raise SpectrumError(
            f"{what} has shape {numbers.shape}, which does not fit flux of shape {flux.shape}; a number for each "
            "spectrum has shape (spectrum, 1)"
        ) from error


def _require_cover(which: Arm, waves: NDArray[np.float64]) -> None:
    """Refuse spectra that do not reach over the arm's grid once their ends are cut off."""
    ordered = np.sort(waves, axis=1)
    first, last = ordered[:, CUSHION], ordered[:, -1 - CUSHION]
    need = which.wavelength[[0, -1]]
    for row in np.flatnonzero((first > need[0]) | (last < need[1]))[:1]:
        low, high = ordered[row, 0], ordered[row, -1]
        hint = f"arm {which.name} needs {need[0]:.1f} to {need[1]:.1f} Angstrom, and some more for the star's velocity"
        if low < need[0] / 5.0:
            hint += "; are they nanometres, micrometres or logarithms?"
        elif low <= need[0] and high >= need[1]:
            hint += f", between the {CUSHION} pixels at each end that do not count"
        raise SpectrumError(f"the wavelengths of spectrum {row} run from {low:.6g} to {high:.6g}; {hint}")


def _content(which: Arm, spectra: ArmSpectra, row: int) -> int:
    """First 64 bits of BLAKE2b over all that decides the verdict on a spectrum."""
    digest = hashlib.blake2b(which.name.encode(), digest_size=8, person=b"arrays 1")
    for column in (spectra.flux, spectra.ivar, spectra.loglam, spectra.mask):
        digest.update(np.ascontiguousarray(column[row]).data)
    return int.from_bytes(digest.digest(), "little")


def _suspect_air(velocity: NDArray[np.float32]) -> None:
    """Warn if most velocities are those of stars at rest whose wavelengths are in air."""
    measured = velocity[np.isfinite(velocity)]
    if measured.size and abs(float(np.median(measured)) - AIR_SHIFT) < _AIR_RANGE:
        warnings.warn(
            f"the median velocity is {np.median(measured):.1f} km/s; wavelengths in air that are taken for those in "
            f"vacuum make {AIR_SHIFT} km/s of a star at rest: if they are in air, say air=True",
            AirWarning,
            stacklevel=3,
        )


@one_thread()
def ccf(spectra: xr.Dataset, arm: ArmName = "B") -> xr.DataArray:
    """Cross-correlation functions of exposures in one arm, each with the template that fits it best.

    Parameters
    ----------
    spectra
        Exposures, as for :func:`twinlines.judge`.
    arm
        "B" or "R".

    Returns
    -------
    xr.DataArray
        (exposure, velocity) Pearson's coefficient; NaN where there is no usable spectrum. ``velocity`` is in km/s;
        ``teff`` (K), ``logg``, ``feh``, ``alpha`` and ``vsini`` (km/s) are those of the template, ``obsid`` and
        ``lmjm`` those of the exposure.

    Raises
    ------
    SchemaError
        If ``spectra`` are no exposures.

    Examples
    --------
    >>> import twinlines as tw
    >>> tw.ccf(spectra, arm="B").plot.line(x="velocity")  # doctest: +SKIP
    """
    name = arm_called(arm).name
    spectra = exposures_of(spectra)
    templates = Templates.default()
    rows = spectra.sizes["exposure"]
    coefficient, labels, velocity = [], [], np.empty(0)
    for start in range(0, max(rows, 1), BLOCK_ROWS):
        block = spectra.isel(exposure=slice(start, start + BLOCK_ROWS)).load()
        seen = ArmSpectra.of(name, block).observe(name)
        correlation = correlate(name, seen.wavelength, seen.normalised, seen.normalised_sigma, templates, seen.bad)
        coefficient.append(correlation.coefficient)
        labels.append(correlation.labels)
        velocity = correlation.velocity
    columns = np.concatenate(labels).T
    coords = {
        "velocity": ("velocity", velocity, {"units": "km s-1", "long_name": "Radial velocity"}),
        **{name: ("exposure", spectra[name].values) for name in ("obsid", "lmjm")},
        **{
            name: ("exposure", values, {"units": units, "long_name": f"{name} of the template"})
            for (name, units), values in zip(_LABELS.items(), columns, strict=True)
        },
    }
    return xr.DataArray(
        np.concatenate(coefficient),
        coords,
        ("exposure", "velocity"),
        name=f"ccf_{arm}",
        attrs={"long_name": f"Correlation with the best template, arm {arm}"},
    )
