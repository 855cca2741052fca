"""One block of exposures becomes rows of results: a pure function of the block, the ensemble and the parameters.

Knows no Dask, no survey and no disk but the weights it is loaded from. A row's results do not depend on the rows beside
it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from twinlines.models.ensemble import Ensemble, EnsembleError
from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import (
    CATALOG_PENALTIES,
    FATAL,
    MINIMUM_SNR,
    PERCENTILES,
    RESULTS,
    TABLE4,
    Quality,
)
from twinlines.pipeline.spectra import preprocess, velocity
from twinlines.pipeline.spectra.velocity import Templates

NUMERICS = 3
"""Numerical version: raised with every change of a result, here or in what is called here (preprocessing, velocities,
ensemble), so that nothing stale is reused."""

SHIPPED_WEIGHTS = Path(str(resources.files("twinlines.models"))) / "weights"
"""Folder of the ensemble that ships."""


@dataclass(frozen=True)
class Parameters:
    """What decides the results besides data, weights and code."""

    seed: int = 0
    """Seed of the Monte Carlo noise."""
    n_draws: int = 20
    """Noisy copies of each spectrum (Zhang et al. 2022, section 4.1)."""
    minimum_snr: float = MINIMUM_SNR
    """Arms with a header S/N at or below this are left out."""
    precision: str = "float32"
    """Arithmetic of the networks: "float32", or "mixed", products of bfloat16, on CPUs and GPUs that have it."""

    def to_json(self) -> dict[str, object]:
        """Make a dictionary for provenance and for the ledger's keys."""
        return {**asdict(self), "library": Library.load().digest}


Columns = dict[str, NDArray[Any]]


class WeightsChangedError(RuntimeError):
    """The weights on disk are not those that the run was planned with."""


@dataclass(frozen=True)
class Inference:
    """What a worker keeps between tasks: the ensemble and the velocity templates."""

    ensemble: Ensemble
    """The networks."""
    templates: Templates
    """Templates for the velocities."""
    parameters: Parameters
    """Parameters of the run."""

    @classmethod
    def load(cls, weights: str | Path, digest: str | None, parameters: Parameters, device: str = "cpu") -> Inference:
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
        torch.set_num_threads(1)
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
        return cls(ensemble, Templates.build(Library.load()), parameters)

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
        rows = block.sizes["exposure"]
        shared = [name for name in TABLE4 if name in block.variables]
        columns: Columns = {name: block[name].values for name in [*shared, "content_hash"]}
        keys = np.stack([block["obsid"].values, block["lmjm"].values.astype(np.int64)], axis=1)
        for index, name in enumerate(ARM_NAMES):
            columns |= self._arm(name, block.isel(arm=index), keys)
        return RESULTS.dataset(columns, rows)

    def _arm(self, name: ArmName, block: xr.Dataset, keys: NDArray[np.int64]) -> Columns:
        """Results of one arm of all rows."""
        snr = block["snr"].values
        columns: Columns = {"snr": snr, "specflag": snr > self.parameters.minimum_snr}
        quality = np.where(np.isnan(snr), Quality.NO_ARM, np.where(columns["specflag"], Quality.GOOD, Quality.LOW_SNR))
        quality = quality.astype(np.uint16)
        # An arm without a usable spectrum has no good pixel, so that no cut on their number lets it through.
        columns["npixbad"] = np.full(len(snr), ARMS[name].n_pixels, dtype=np.int32)
        for column in ("rv_obs", "rv_obs_err", "rv_teff", "ccfmax"):
            columns[column] = np.full(len(snr), np.nan, dtype=np.float32)
        for penalty in CATALOG_PENALTIES:
            columns[f"pb_pct_{penalty}"] = np.full((len(snr), len(PERCENTILES)), np.nan, dtype=np.float32)
        used = np.flatnonzero(columns["specflag"])
        if len(used):
            quality[used] |= self._spectra(name, block.isel(exposure=used), keys[used], used, columns)
        result = {_table_name(column, name): values for column, values in columns.items()}
        result[f"quality_{name}"] = quality
        return result

    def _spectra(
        self,
        name: ArmName,
        block: xr.Dataset,
        keys: NDArray[np.int64],
        rows: NDArray[np.int64],
        columns: Columns,
    ) -> NDArray[np.uint16]:
        """Fill the ``rows`` of ``columns`` from the spectra in ``block``; returns their quality bits."""
        observed = observe(name, block)
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
        columns["rv_obs"][rows] = measured.velocity
        columns["rv_obs_err"][rows] = measured.error
        columns["rv_teff"][rows] = measured.teff
        columns["ccfmax"][rows] = measured.ccfmax
        columns["npixbad"][rows[on_grid]] = rest.n_bad.numpy()[on_grid]
        if on_grid.any():
            percentiles = self.ensemble.percentiles(
                name,
                rest.flux.numpy()[on_grid],
                rest.sigma.numpy()[on_grid],
                keys[on_grid],
                seed=self.parameters.seed,
                n_draws=self.parameters.n_draws,
                percentiles=PERCENTILES,
            )
            for penalty, values in percentiles.items():
                if penalty in CATALOG_PENALTIES:
                    columns[f"pb_pct_{penalty}"][rows[on_grid]] = values
        return quality


def observe(name: ArmName, block: xr.Dataset) -> preprocess.Observed:
    """Clean and normalise one arm of a block (rows of exposures, without the dimension ``arm``), observed frame."""
    return preprocess.observe(ARMS[name], *(block[column].values for column in ("flux", "ivar", "loglam", "mask")))


def _table_name(column: str, arm: str) -> str:
    """Table 4's name of an arm's column: the arm stands before the penalty."""
    if column.startswith("pb_pct_"):
        return f"pb_pct_{arm}_{column.removeprefix('pb_pct_')}"
    return f"{column}_{arm}"
