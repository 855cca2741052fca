"""Judges spectra that are at hand, in this process: those of a survey, or anybody's arrays.

The verdict on an exposure is, bit for bit, that of a survey's run: the same inference, block by block, on one thread.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from twinlines.models import checkpoint
from twinlines.models.precision import quickest
from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName
from twinlines.pipeline.arms import arm as arm_called
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import EXPOSURES, RESULTS, Quality, SchemaError
from twinlines.pipeline.spectra import arrays
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, ArmSpectra, Inference, InferenceParameters
from twinlines.pipeline.spectra.templates import Templates
from twinlines.pipeline.spectra.velocity import correlate

BLOCK_ROWS = EXPOSURES.chunk_rows
"""Exposures that are in memory at a time, where the Dataset itself is not."""

_LABELS = {"teff": "K", "logg": "", "feh": "", "alpha": "", "vsini": "km s-1"}


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
    NoiseWarning
        If spectra are far noisier than ``sigma`` or ``ivar`` says, as where it is in another unit than the flux.
    FluxWarning
        If the flux of a spectrum is as often below zero as above: it gets no verdict.

    Examples
    --------
    >>> import twinlines as tw
    >>> verdict = tw.judge_arrays("B", wavelength, flux, sigma=0.02)  # doctest: +SKIP
    """
    which = arm_called(arm)
    spectra = arrays.spectra_of(which, wavelength, flux, ivar, sigma, mask, air)
    rows = len(spectra.flux)
    content = np.array([arrays.content(which, spectra, row) for row in range(rows)], dtype=np.uint64)
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
        arrays.suspect_air(columns[f"rv_obs_{which.name}"])
    arrays.suspect_noise(columns[f"noise_{which.name}"])
    arrays.suspect_flux(spectra.flux)
    return RESULTS.dataset(columns, rows)


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
