"""Velocities of two stars, fitted to both arms at once, on the scale of the arms' zero points.

A fit has the velocities on the blue arm's scale, and how far off the red arm's is (``arm_offset``): with zero points
z_B and z_R there are two ways to the same velocity, rv + z_B and rv + arm_offset + z_R. Their mean, weighted for the
least error, moves both stars alike; the difference of the two is as it was measured. Arrays and rows in, rows out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.schema import ON_SCALE, FitQuality
from twinlines.pipeline.binaries.zeropoints.consistency import NO_GROUP
from twinlines.pipeline.lookup import NOWHERE, places_of

Array = NDArray[np.float64]

RED_SHARE = 0.25
"""What of a velocity's information is the red arm's, in a fit to both: by how much an error of the arms' offset enters
the velocities. Fits do not keep it; they have 0.22 to 0.35 (16 and 84 % of pairs 50 km/s apart, S/N 8 to 50). With
0.25 for all, errors are 0.96 to 1.15 times what they would be (2 and 98 %). It is less where the offset is known far
worse than the velocities, which then cannot depend on it."""

GUESS = "usual_zero_point"
"""Attribute of rows on one scale: median zero point of the blue arm, km/s; the best guess for one that is not known."""

_OWN = "survey"  # the scale of zero points that no references have made


@dataclass(frozen=True)
class Shift:
    """What zero points add to the velocities of exposures, (exposure,); NaN where there is none."""

    velocity: Array
    """Added to every star's velocity, km/s."""
    variance: Array
    """Added to every element of the velocities' covariance, km2 s-2; negative where a zero point says of an arm that
    was fitted alone what the fit only took for likely."""
    least: Array
    """Variance that a velocity has at least: the zero points' own, km2 s-2."""
    group: NDArray[np.int32]
    """Exposures of one number are on one scale; :data:`.consistency.NO_GROUP` where there is no zero point."""


def shift_of(
    offset: Array,
    offset_variance: Array,
    share: Array,
    zero_point: Array,
    error: Array,
    group: NDArray[np.int32],
) -> Shift:
    """What zero points of both arms add to velocities of a fit to both.

    With f the red arm's ``share`` and o the offset, of variance s_o^2, the velocity is rv + z_B + w (o - z_B + z_R),
    w = (s_B^2 + f s_o^2) / (s_o^2 + s_B^2 + s_R^2), the weight of the least variance: for fits far better than zero
    points it is the inverse-variance mean of the two, for zero points far better than the offset it is f.

    Parameters
    ----------
    offset, offset_variance
        (exposure,) red arm's scale less the blue arm's, km/s, and km2 s-2.
    share
        (exposure,) of the velocities' information, the red arm's: 0 where only the blue arm was fitted, 1 where only
        the red one was.
    zero_point, error
        (exposure, arm) km/s; NaN where there is none.
    group
        (exposure, arm) zero points of one number are on one scale.
    """
    there = np.isfinite(zero_point) & np.isfinite(error)
    blue, red = there.T
    both = blue & red & (group[:, 0] == group[:, 1])
    first, second = np.where(there, error, 0.0).T ** 2
    weight = np.where(both, (first + share * offset_variance) / (offset_variance + first + second), 0.0)
    # Of an arm that was not fitted the offset says nothing: its zero point counts where there is no other.
    weight = np.where(red & ~blue, 1.0, weight)
    z_blue, z_red = np.where(there, zero_point, 0.0).T
    shift = z_blue * (1.0 - weight) + weight * (offset + z_red)
    own = (1.0 - weight) ** 2 * first + weight**2 * second
    variance = own + weight * (weight - 2.0 * share) * offset_variance
    # One arm's share is exact; that of two is about right, and no covariance may become none.
    variance = np.where(share < 1.0, np.maximum(variance, 0.0), variance)
    known = there.any(axis=1) & np.isfinite(shift) & np.isfinite(variance)
    return Shift(
        velocity=np.where(known, shift, np.nan),
        variance=np.where(known, variance, np.nan),
        least=np.where(known, own, np.nan),
        group=np.where(known, np.where(blue, group[:, 0], group[:, 1]), NO_GROUP).astype(np.int32),
    )


def on_one_scale(rows: xr.Dataset, zero_points: xr.Dataset | None) -> xr.Dataset:
    """Rows of a catalog with their fits, and the velocities of both stars with zero points added.

    Parameters
    ----------
    rows
        Rows of :data:`twinlines.pipeline.schema.CATALOG` with the columns of their fits (:func:`.store.join`).
    zero_points
        The catalog's, of :data:`twinlines.pipeline.schema.ZERO_POINTS`; None: it has none.

    Returns
    -------
    xr.Dataset
        ``rows`` as they are without zero points. With them also :data:`.schema.ON_SCALE`, NaN where an exposure has no
        zero point or no fit, and the attribute :data:`GUESS`.
    """
    if zero_points is None:
        return rows
    zero, error, group = _of_rows(rows, zero_points)
    value = {
        name: rows[name].values.astype(np.float64)
        for name in (
            *("rv1", "rv1_err", "rv2", "rv2_err", "rv_covariance", "rv_single", "rv_single_err"),
            *("arm_offset", "arm_offset_err"),
        )
    }
    share = _share(rows)
    offset_variance = value["arm_offset_err"] ** 2
    pair = shift_of(value["arm_offset"], offset_variance, share, zero, error, group)
    columns: dict[str, NDArray[np.float64] | NDArray[np.int32]] = {"rv_abs_group": pair.group}
    for name in ("rv1", "rv2", "rv_single"):
        columns[f"{name}_abs"] = value[name] + pair.velocity
        variance = np.maximum(value[f"{name}_err"] ** 2 + pair.variance, pair.least)
        columns[f"{name}_abs_err"] = np.sqrt(variance)
    columns["rv_abs_covariance"] = value["rv_covariance"] + pair.variance
    dims = rows["obsid"].dims
    usual = zero_points["zero_point"].values[:, 0].astype(np.float64)
    usual = usual[np.isfinite(usual)]
    return rows.assign(
        {
            name: (dims, columns[name].astype(of.dtype), {"units": of.units, "long_name": of.long_name})
            for name, of in ON_SCALE.items()
        }
    ).assign_attrs({GUESS: float(np.median(usual)) if len(usual) else 0.0})


def comparable(rows: xr.Dataset, star: NDArray[np.int64]) -> xr.Dataset:
    """The same rows, without the scaled velocities that cannot be compared with most others of their star.

    Zero points that no references have made are relative to each other, within a group.

    Parameters
    ----------
    rows
        What :func:`on_one_scale` returned; others come back as they are.
    star
        (exposure,) number of the star.
    """
    if "rv_abs_group" not in rows:
        return rows
    group = rows["rv_abs_group"].values
    known = np.flatnonzero(group != NO_GROUP)
    each, which, count = np.unique(
        np.stack([star[known], group[known]], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    order = np.lexsort((each[:, 1], -count, each[:, 0]))  # a star's largest group first
    first = order[np.r_[True, np.diff(each[order, 0]) != 0]] if len(order) else order
    apart = known[~np.isin(which.ravel(), first)]
    if not len(apart):
        return rows
    without = {}
    for name, variable in ON_SCALE.items():
        values = rows[name].values.copy()
        values[apart] = NO_GROUP if name == "rv_abs_group" else variable.missing
        without[name] = (rows[name].dims, values, rows[name].attrs)
    return rows.assign(without)


def _of_rows(rows: xr.Dataset, zero_points: xr.Dataset) -> tuple[Array, Array, NDArray[np.int32]]:
    """Zero points of exposures, their errors and groups, each (exposure, arm)."""

    def key(of: xr.Dataset) -> NDArray[np.int64]:
        return np.asarray(of["lmjm"].values.astype(np.int64) * 1000 + of["spid"].values, np.int64)

    have, want = key(zero_points), key(rows)
    place = places_of(want, have)
    there = place != NOWHERE
    zero, error = (np.full((len(want), len(ARM_NAMES)), np.nan) for _ in range(2))
    group = np.full((len(want), len(ARM_NAMES)), NO_GROUP, np.int32)
    unit = place[there]
    zero[there], error[there] = zero_points["zero_point"].values[unit], zero_points["error"].values[unit]
    own = str(zero_points.attrs["results"]["scale"]) == _OWN
    group[there] = zero_points["group"].values[unit] if own else 0  # references are one scale
    return zero, error, group


def _share(rows: xr.Dataset) -> Array:
    """The red arm's share of the velocities of each exposure."""
    alone = (rows["fit_quality"].values & FitQuality.ONE_ARM) > 0
    red = np.isfinite(rows["flux_ratio_R"].values)  # which an arm that was not fitted has not
    with np.errstate(divide="ignore", invalid="ignore"):
        most = np.fmin(rows["rv1_err"].values, rows["rv2_err"].values) / rows["arm_offset_err"].values
    return np.where(alone, np.where(red, 1.0, 0.0), np.fmin(RED_SHARE, most.astype(np.float64)))
