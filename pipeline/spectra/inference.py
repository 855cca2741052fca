"""One block of exposures becomes rows of results: a pure function of the block, the ensemble and the parameters.

Knows no Dask, no survey and no disk but the weights it is loaded from. A row's results do not depend on the rows beside
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from twinlines.models.ensemble import Ensemble, EnsembleError
from twinlines.models.precision import PRECISIONS
from twinlines.models.threads import one_thread
from twinlines.models.vocabulary import PERCENTILES
from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import (
    CATALOG_PENALTIES,
    FATAL,
    MINIMUM_SNR,
    RESULTS,
    TABLE4,
    Quality,
)
from twinlines.pipeline.spectra import familiarity, preprocess, velocity
from twinlines.pipeline.spectra.velocity import Templates

NUMERICS = 8
"""Numerical version: raised with every change of a result, here or in what is called here (preprocessing, velocities,
ensemble), so that nothing stale is reused."""

SHIPPED_WEIGHTS = Path(str(resources.files("twinlines.models"))) / "weights"
"""Folder of the ensemble that ships."""


class ParameterError(ValueError):
    """A parameter has a value that it cannot have."""


@dataclass(frozen=True)
class InferenceParameters:
    """What decides the results besides data, weights and code."""

    seed: int = 0
    """Seed of the Monte Carlo noise."""
    n_draws: int = 20
    """Noisy copies of each spectrum (Zhang et al. 2022, section 4.1)."""
    minimum_snr: float = MINIMUM_SNR
    """Arms with a header S/N at or below this are left out."""
    precision: str = "float32"
    """Arithmetic of the networks: "float32", or "mixed", products of bfloat16, on CPUs and GPUs that have it."""

    def __post_init__(self) -> None:
        if self.n_draws < 1:
            raise ParameterError(f"n_draws is {self.n_draws}; give 1 or more")
        if self.precision not in PRECISIONS:
            raise ParameterError(f"precision is {self.precision!r}; give one of {', '.join(PRECISIONS)}")

    def to_json(self) -> dict[str, object]:
        """Make a dictionary for provenance and for the ledger's keys."""
        return {**asdict(self), "library": Library.load().digest}


Columns = Mapping[str, NDArray[Any]]
"""Arrays of one row a spectrum, by the names of :data:`twinlines.pipeline.schema.RESULTS`."""


class _Seen(NamedTuple):
    """What there is to see in one arm of some exposures."""

    columns: Columns
    """What is measured on it."""
    flux: NDArray[np.float32]
    """(spectrum, pixel) flux over continuum on the arm's grid, at rest; NaN where it is not to be judged."""
    sigma: NDArray[np.float32]
    """(spectrum, pixel) its standard deviation."""


@dataclass(frozen=True)
class Prepared:
    """Exposures that wait for the networks: all that a core does for them is done."""

    columns: Columns
    """What is known of them already."""
    flux: Mapping[str, NDArray[np.float32]]
    """By arm, (exposure, pixel) flux over continuum at rest; NaN where it is not to be judged."""
    sigma: Mapping[str, NDArray[np.float32]]
    """Its standard deviation."""
    keys: NDArray[np.int64]
    """(exposure, 2) obsid and lmjm, on which the noise depends."""


class WeightsChangedError(RuntimeError):
    """The weights on disk are not those that the run was planned with."""


@dataclass(frozen=True)
class ArmSpectra:
    """One arm of some exposures, as stored; the number of pixels is the spectra's own."""

    flux: NDArray[np.float32]
    """(spectrum, pixel) counts."""
    ivar: NDArray[np.float32]
    """(spectrum, pixel) inverse variance of the flux."""
    loglam: NDArray[np.float32] | NDArray[np.float64]
    """(spectrum, pixel) log10 of vacuum wavelength in Angstrom."""
    mask: NDArray[np.uint8]
    """(spectrum, pixel) bits of the pixel mask; above 0 is bad."""
    snr: NDArray[np.float32]
    """(spectrum,) signal-to-noise ratio; NaN where the arm is absent."""

    @classmethod
    def of(cls, name: ArmName, block: xr.Dataset) -> ArmSpectra:
        """One arm of rows of :data:`twinlines.pipeline.schema.EXPOSURES`."""
        rows = block.isel(arm=ARM_NAMES.index(name))
        return cls(*(rows[column.name].values for column in fields(cls)))

    def take(self, rows: NDArray[np.int64]) -> ArmSpectra:
        """The spectra at ``rows``."""
        return ArmSpectra(*(getattr(self, column.name)[rows] for column in fields(self)))

    def observe(self, name: ArmName) -> preprocess.Observed:
        """Clean and normalise them in the observed frame."""
        return preprocess.observe(ARMS[name], self.flux, self.ivar, self.loglam, self.mask)


@dataclass(frozen=True)
class Inference:
    """What a worker keeps between tasks: the ensemble and the velocity templates."""

    ensemble: Ensemble
    """The networks."""
    templates: Templates
    """Templates for the velocities."""
    parameters: InferenceParameters
    """Parameters of the run."""

    @classmethod
    @one_thread()
    def load(
        cls, weights: str | Path, digest: str | None, parameters: InferenceParameters, device: str = "cpu"
    ) -> Inference:
        """Load the ensemble in the folder ``weights`` and prepare the templates.

        The networks work on ``device``, "cpu" or "cuda"; all else is a core's work.

        Raises
        ------
        WeightsChangedError
            If the folder's digest is not ``digest``.
        EnsembleError
            If members take spectra of another length than their arm's, or the device is not there or has not the
            precision.
        """
        ensemble = Ensemble.load(Path(weights), device=device, precision=parameters.precision)
        if ensemble.precision != parameters.precision:
            # The run's key promises it.
            raise EnsembleError(
                f"the precision {parameters.precision!r} needs a device that multiplies bfloat16, and this {device} "
                "does not; use float32"
            )
        for name in ARM_NAMES:
            if ensemble.pixels[name] != ARMS[name].n_pixels:
                raise EnsembleError(
                    f"the weights in {weights} for arm {name} take {ensemble.pixels[name]} pixels; the arm has "
                    f"{ARMS[name].n_pixels}: they are another arm's, or another grid's; train them anew"
                )
        if digest is not None and ensemble.digest != digest:
            raise WeightsChangedError(
                f"the weights in {weights} have the digest {ensemble.digest}, but the run was planned with {digest}; "
                "weights must not change during a run: start the run again"
            )
        return cls(ensemble, Templates.default(), parameters)

    def __call__(self, block: xr.Dataset) -> xr.Dataset:
        """Compute the results of ``block``.

        Parameters
        ----------
        block
            Rows of :data:`twinlines.pipeline.schema.EXPOSURES`.

        Returns
        -------
        xr.Dataset
            Rows of :data:`twinlines.pipeline.schema.RESULTS`, in the same order.
        """
        return self.verdict(self.prepare(block))

    def prepare(self, block: xr.Dataset) -> Prepared:
        """Do a core's part of a call; several threads may at once."""
        shared = {name: block[name].values for name in [*TABLE4, "content_hash"] if name in block.variables}
        keys = np.stack([block["obsid"].values, block["lmjm"].values.astype(np.int64)], axis=1)
        return self._prepare({name: ArmSpectra.of(name, block) for name in ARM_NAMES}, keys, shared)

    def verdict(self, prepared: Prepared) -> xr.Dataset:
        """Do the networks' part of a call, on the ensemble's device; one thread at a time."""
        return RESULTS.dataset(self._judge(prepared), len(prepared.keys))

    def judge(self, spectra: Mapping[ArmName, ArmSpectra], keys: NDArray[np.int64]) -> Columns:
        """Results of the arms of some exposures; of spectra below the least S/N, only why they have none.

        Parameters
        ----------
        spectra
            By arm, the spectra of the same exposures; the verdict of both arms needs both.
        keys
            (exposure, 2) obsid and lmjm, on which the noise depends.
        """
        return self._judge(self._prepare(spectra, keys, {}))

    @one_thread()
    def _prepare(
        self, spectra: Mapping[ArmName, ArmSpectra], keys: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]
    ) -> Prepared:
        seen = {name: self._see(name, mine) for name, mine in spectra.items()}
        return Prepared(
            columns=dict(columns) | {name: values for each in seen.values() for name, values in each.columns.items()},
            flux={name: each.flux for name, each in seen.items()},
            sigma={name: each.sigma for name, each in seen.items()},
            keys=keys,
        )

    @one_thread()
    def _judge(self, prepared: Prepared) -> Columns:
        columns = dict(prepared.columns)
        percentiles = self.ensemble.percentiles(
            prepared.flux,
            prepared.sigma,
            prepared.keys,
            seed=self.parameters.seed,
            n_draws=self.parameters.n_draws,
            percentiles=PERCENTILES,
        )
        columns |= {
            f"pb_pct_{head}_{penalty}": values
            for head, by_penalty in percentiles.items()
            for penalty, values in by_penalty.items()
            if penalty in CATALOG_PENALTIES
        }
        judged = {name: (columns[f"quality_{name}"] & FATAL) == 0 for name in prepared.flux}
        if len(judged) == len(ARM_NAMES):  # whoever asks for one arm misses no verdict of both
            both = np.all(list(judged.values()), axis=0)
            for name in judged:
                missed = np.where(judged[name] & ~both, Quality.ONE_ARM, 0).astype(np.uint16)
                columns[f"quality_{name}"] = columns[f"quality_{name}"] | missed
        return columns

    def _see(self, name: ArmName, spectra: ArmSpectra) -> _Seen:
        """What there is to see in an arm, and all columns but probabilities."""
        rows, pixels = len(spectra.snr), ARMS[name].n_pixels
        specflag = spectra.snr > self.parameters.minimum_snr
        missing: dict[str, NDArray[Any]] = {
            f"{column}_{name}": np.full(rows, np.nan, dtype=np.float32)
            for column in ("rv_obs", "rv_obs_err", "rv_teff", "ccfmax", "noise", "misfit")
        }
        # An arm without a usable spectrum has no good pixel, so that no cut on their number lets it through.
        missing[f"npixbad_{name}"] = np.full(rows, pixels, dtype=np.int32)
        missing[f"quality_{name}"] = np.where(np.isnan(spectra.snr), Quality.NO_ARM, Quality.LOW_SNR).astype(np.uint16)
        nothing = np.full((rows, pixels), np.nan, dtype=np.float32)
        used = np.flatnonzero(specflag)
        seen = self._measured(name, spectra.take(used)) if used.size else _Seen({}, nothing[used], nothing[used])
        return _Seen(
            {
                f"snr_{name}": spectra.snr,
                f"specflag_{name}": specflag,
                **missing,
                **{column: _placed(values, used, missing[column]) for column, values in seen.columns.items()},
            },
            _placed(seen.flux, used, nothing),
            _placed(seen.sigma, used, nothing),
        )

    def _measured(self, name: ArmName, spectra: ArmSpectra) -> _Seen:
        """Velocities and quality of spectra whose S/N is high enough, and the spectra at rest."""
        observed = spectra.observe(name)
        measured = velocity.measure(
            name,
            observed.wavelength,
            observed.normalised,
            observed.normalised_sigma,
            self.templates,
            observed.bad,
        )
        rest = preprocess.to_rest_frame(ARMS[name], observed, torch.from_numpy(measured.velocity))
        quality = rest.quality.numpy().astype(np.uint16) | measured.quality
        on_grid = (quality & FATAL) == 0
        flux = np.where(on_grid[:, None], rest.flux.numpy(), np.float32(np.nan))
        components = familiarity.Components.default()
        misfit = familiarity.measure(name, torch.from_numpy(flux), rest.sigma, observed.noise, components)
        quality |= np.where(misfit > familiarity.UNFAMILIAR_ABOVE[name], Quality.UNFAMILIAR, 0).astype(np.uint16)
        columns: Columns = {
            f"rv_obs_{name}": measured.velocity.astype(np.float32),
            f"rv_obs_err_{name}": measured.error.astype(np.float32),
            f"rv_teff_{name}": measured.teff.astype(np.float32),
            f"ccfmax_{name}": measured.ccfmax.astype(np.float32),
            f"noise_{name}": observed.noise.numpy(),
            f"misfit_{name}": misfit,
            f"npixbad_{name}": np.where(on_grid, rest.n_bad.numpy(), np.int32(ARMS[name].n_pixels)),
            f"quality_{name}": quality,
        }
        return _Seen(columns, flux, rest.sigma.numpy())


def _placed(values: NDArray[Any], rows: NDArray[np.int64], background: NDArray[Any]) -> NDArray[Any]:
    """``background`` with ``values`` at ``rows``."""
    placed = background.copy()
    placed[rows] = values
    return placed
