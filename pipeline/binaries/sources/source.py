"""From exposures to stars: which exposures are of one source, and its mass ratio from all epochs.

Epochs are grouped by position; at each, the two-star fit says two velocities, or that there are none. Which star is
which is decided for all epochs together (:mod:`twinlines.pipeline.binaries.components`). A pure function of a catalog's
rows with their fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import twinlines.pipeline.catalog.questions  # noqa: F401 (gives Datasets their accessor)
from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.components.assignment import assign
from twinlines.pipeline.binaries.components.epochs import Epochs, blended
from twinlines.pipeline.binaries.components.epochs import together as epochs_together
from twinlines.pipeline.binaries.components.pairs import Pairs, pairs
from twinlines.pipeline.binaries.evidence.exposures import LEAST_ERROR, ZERO_POINT
from twinlines.pipeline.binaries.fits.store import shows_two
from twinlines.pipeline.binaries.grouping import NO_STAR, RADIUS, group
from twinlines.pipeline.binaries.orbits.ways import nights_of
from twinlines.pipeline.binaries.schema import SOURCES, FitQuality
from twinlines.pipeline.binaries.zeropoints.pairs import GUESS, comparable
from twinlines.pipeline.sky import unit_vectors

_LEAST_ERROR = 0.3  # km/s; a velocity of one exposure is no better, whatever the photons say
_NIGHT = 0.5  # days; exposures that follow each other sooner share their zero point
_SURELY = 200.0  # delta_chi2_diluted that two stars apart would have: five times what is asked of a double exposure


@dataclass(frozen=True)
class Sources:
    """Stars of which an exposure shows two sets of lines."""

    table: xr.Dataset
    """Rows of :data:`.schema.SOURCES`, those with the most epochs first; without orbits."""
    epochs: tuple[Epochs, ...]
    """Velocities of each, the stars in their order; blends, too."""
    exchange: tuple[NDArray[np.float64], ...]
    """Probability, for each epoch, that the stars are the other way round."""
    members: tuple[NDArray[np.int64], ...]
    """Rows of each one's exposures among those that were grouped."""


def sources(rows: xr.Dataset, *, radius: float = RADIUS) -> Sources:
    """Group exposures into stars, and decide which star is which at every epoch.

    Parameters
    ----------
    rows
        Rows of :data:`twinlines.pipeline.schema.CATALOG` with the columns of their fits (:func:`.store.join`): all
        exposures of the stars in question. Where they have velocities with zero points
        (:func:`.zeropoints.pairs.on_one_scale`), these count.
    radius
        Exposures within this angle are of one star, transitively, arcsec.
    """
    star = group(rows["ra"].values, rows["dec"].values, radius=radius)
    rows = comparable(rows, star)
    double = is_resolved(rows)
    chosen = [mine for mine in _by_star(star) if double[mine].any()]
    chosen.sort(key=lambda mine: (-int(double[mine].sum()), -len(mine), int(rows["obsid"].values[mine].min())))
    columns = {name: variable.empty((len(chosen),)) for name, variable in SOURCES.variables.items()}
    if not chosen:
        return Sources(SOURCES.dataset(columns, 0), (), (), ())
    columns |= _summaries(rows, chosen, double)
    every = [pairs_of(rows, mine[double[mine]]) for mine in chosen]
    assigned = assign(every)
    line = assigned.line
    columns["flux_ratio"] = np.exp(assigned.log_flux_ratio)
    columns["wilson_mass_ratio"], columns["wilson_mass_ratio_error"] = line.mass_ratio, line.mass_ratio_error
    columns["wilson_velocity"], columns["wilson_velocity_error"] = line.gamma, line.gamma_error
    unknown = ~np.isfinite(line.mass_ratio_error)  # the epochs are of one phase: any mass ratio will do
    for name in ("wilson_mass_ratio", "wilson_mass_ratio_error"):
        columns[name] = np.where(unknown, np.nan, columns[name])
    columns["wilson_p_value"], columns["wilson_status"] = assigned.all_p_value, assigned.status
    blends = [blends_of(rows, mine, double) for mine in chosen]
    columns["epochs_blended"] = np.array([len(mine) for mine in blends])
    every_epoch, exchange = [], []
    for place, mine in enumerate(every):
        probability, swap = (values[place, : len(mine.time)] for values in (assigned.probability, assigned.swap))
        doubt = np.where(swap, 1.0 - probability, probability).clip(0.0, 1.0)
        light = float(columns["flux_ratio"][place])
        blend = _blended(rows, blends[place], mine.source, light if np.isfinite(light) else 1.0)
        order = np.argsort(np.concatenate([mine.time, blend.time]), kind="stable")
        every_epoch.append(epochs_together([assigned.epochs(place, mine), blend]))
        exchange.append(np.concatenate([doubt, np.zeros(len(blend))])[order])
    epochs = tuple(every_epoch)
    return Sources(SOURCES.dataset(columns, len(chosen)), epochs, tuple(exchange), tuple(chosen))


def is_resolved(rows: xr.Dataset) -> NDArray[np.bool_]:
    """Whether an exposure shows two stars whose lines are told apart, and their velocities are known."""
    bits = rows["fit_quality"].values
    needed = ("bjdmid", "rv1", "rv2", "rv1_err", "rv2_err", "rv_covariance")
    known = np.all([np.isfinite(rows[name].values) for name in needed], axis=0)
    known &= np.all([rows[name].values > 0.0 for name in ("rv1_err", "rv2_err")], axis=0)
    doubtful = FitQuality.UNRESOLVED | FitQuality.RIVAL
    return np.asarray(shows_two(rows) & ((bits & doubtful) == 0) & known, np.bool_)


def blends_of(rows: xr.Dataset, mine: NDArray[np.int64], double: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows of one star at which its lines lie together: two stars are seen, not told apart, or surely would be seen.

    What is surely seen goes by the S/N: delta_chi2_diluted grows with its square, and the star's other exposures say
    how large it is.
    """
    each = [np.nan_to_num(rows[f"snr_{arm}"].values[mine].astype(np.float64)) for arm in ARM_NAMES]
    snr = np.square(each).sum(axis=0)
    gain = rows["delta_chi2_diluted"].values[mine].astype(np.float64)
    here = double[mine] & (snr > 0.0)
    expected = snr * (np.median(gain[here] / snr[here]) if here.any() else 0.0)
    bits = rows["fit_quality"].values[mine]
    known = (bits & FitQuality.NO_SPECTRUM) == 0
    for name in ("bjdmid", "rv_single", "rv_single_err"):
        known &= np.isfinite(rows[name].values[mine])
    known &= rows["rv_single_err"].values[mine] > 0.0
    together = shows_two(rows)[mine] & ((bits & FitQuality.UNRESOLVED) > 0)
    unseen = ((bits & FitQuality.NOT_DOUBLE) > 0) & (expected > _SURELY)
    return np.asarray(mine[known & ~double[mine] & (together | unseen)], np.int64)


def _zero_point(rows: xr.Dataset, mine: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """Variance by which both stars of some exposures are off alike, km2 s-2, besides their errors, (exposure,).

    Of velocities with zero points it is that of light that fills fibres unevenly. Without, exposures of a night share a
    zero point that is not known. With its variance as many times larger as the night has such exposures, the mean of
    the night is as uncertain as it is, as if exposures had zero points of their own; the difference of the stars, which
    no zero point moves, stays as certain.
    """
    variance = np.full(len(mine), LEAST_ERROR**2)
    if (without := ~_on_scale(rows, mine, name)).any():
        night = nights_of(rows["bjdmid"].values[mine[without]], _NIGHT)
        variance[without] = ZERO_POINT**2 * np.bincount(night)[night]
    return variance


def _on_scale(rows: xr.Dataset, mine: NDArray[np.int64], name: str) -> NDArray[np.bool_]:
    """Whether exposures have a velocity with zero points, (exposure,)."""
    if f"{name}_abs" not in rows:
        return np.zeros(len(mine), np.bool_)
    known = [np.isfinite(rows[f"{name}_abs{end}"].values[mine]) for end in ("", "_err")]
    return np.asarray(np.all(known, axis=0), np.bool_)


def velocities_of(
    rows: xr.Dataset, mine: NDArray[np.int64], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A velocity of some exposures, km/s, and its error: with zero points, where they are not known with a guess."""
    velocity, error = (rows[f"{name}{end}"].values[mine].astype(np.float64) for end in ("", "_err"))
    if (known := _on_scale(rows, mine, name)).any():
        velocity = velocity + float(rows.attrs[GUESS])
        velocity[known] = rows[f"{name}_abs"].values[mine[known]]
        error[known] = rows[f"{name}_abs_err"].values[mine[known]]
    return velocity, error


def _blended(rows: xr.Dataset, mine: NDArray[np.int64], source: str, flux_ratio: float) -> Epochs:
    velocity, photons = velocities_of(rows, mine, "rv_single")
    error = np.sqrt(photons**2 + _LEAST_ERROR**2 + _zero_point(rows, mine, "rv_single"))
    return blended(source, rows["bjdmid"].values[mine], velocity, error, flux_ratio)


def pairs_of(rows: xr.Dataset, mine: NDArray[np.int64]) -> Pairs:
    """The velocities of some exposures of one star, in the order of time."""
    mine = mine[np.argsort(rows["bjdmid"].values[mine], kind="stable")]

    def both(name: str) -> NDArray[np.float64]:
        return np.stack([rows[name.format(star)].values[mine] for star in "12"], axis=1).astype(np.float64)

    stars = [velocities_of(rows, mine, f"rv{star}") for star in "12"]
    velocity, stated = (np.stack(each, axis=1) for each in zip(*stars, strict=True))
    zero_point = _zero_point(rows, mine, "rv1")
    error = np.sqrt(stated**2 + _LEAST_ERROR**2 + zero_point[:, None])
    covariance = rows["rv_covariance"].values[mine].astype(np.float64)
    if (known := _on_scale(rows, mine, "rv1")).any():
        covariance[known] = rows["rv_abs_covariance"].values[mine[known]]
    correlation = (covariance + zero_point) / error.prod(axis=1)
    ratio, ratio_error = (rows[name].values[mine].astype(np.float64) for name in ("flux_ratio_B", "flux_ratio_B_err"))
    known = np.isfinite(ratio) & np.isfinite(ratio_error) & (ratio > 0.0) & (ratio_error > 0.0)
    warm, warm_error = both("teff{}"), both("teff{}_err")
    measured = np.isfinite(warm_error) & (warm_error > 0.0)
    return pairs(
        f"obsid {int(rows['obsid'].values[mine].min())}",
        rows["bjdmid"].values[mine],
        velocity,
        error,
        correlation=np.clip(correlation, -0.999, 0.999),
        flux_ratio=np.where(known, ratio, np.nan),
        flux_ratio_error=np.where(known, ratio_error, np.nan),
        temperature=np.where(measured, warm, np.nan),
        temperature_error=np.where(measured, warm_error, np.nan),
    )


def _by_star(star: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows of each star."""
    order = np.argsort(star, kind="stable")
    order = order[star[order] != NO_STAR]
    if len(order):
        yield from np.split(order, np.flatnonzero(np.diff(star[order])) + 1)


def _middle(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> tuple[float, float]:
    """Mean position, deg, of one star's exposures, wherever it is on the sky."""
    x, y, z = unit_vectors(ra, dec).mean(axis=0)
    return float(np.degrees(np.arctan2(y, x)) % 360.0), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def _summaries(
    rows: xr.Dataset, chosen: Sequence[NDArray[np.int64]], double: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    value = {name: rows[name].values for name in ("obsid", "ra", "dec", "bjdmid", "delta_chi2_diluted", "rv1", "rv2")}
    fitted = (rows["fit_quality"].values & FitQuality.NO_SPECTRUM) == 0
    moonlit = double & ((rows["fit_quality"].values & FitQuality.MOONLIGHT) > 0)
    probability = rows.sb2.probability("J").values
    apart = np.abs(value["rv2"] - value["rv1"])

    def each(function: Any) -> NDArray[Any]:
        return np.array([function(mine) for mine in chosen])

    place = np.array([_middle(value["ra"][mine], value["dec"][mine]) for mine in chosen])
    return {
        "obsid": each(lambda mine: value["obsid"][mine].min()),
        "ra": place[:, 0],
        "dec": place[:, 1],
        "epochs": each(len),
        "epochs_fitted": each(lambda mine: fitted[mine].sum()),
        "epochs_double": each(lambda mine: double[mine].sum()),
        "epochs_moonlight": each(lambda mine: moonlit[mine].sum()),
        "bjd_first": each(lambda mine: value["bjdmid"][mine].min()),
        "bjd_last": each(lambda mine: value["bjdmid"][mine].max()),
        "best_probability": each(lambda mine: np.fmax.reduce(probability[mine])),
        "delta_chi2_sum": each(lambda mine: np.nansum(value["delta_chi2_diluted"][mine])),
        "separation_largest": each(lambda mine: apart[mine[double[mine]]].max()),
    }
