"""What fits of two stars say of one source, epoch by epoch, before it is known which star is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Epochs of one source with two velocities each; a fit's first and second star may be exchanged at any of them."""

    source: str
    """What errors call the source."""
    time: Array
    """Days; (epoch,)."""
    velocity: Array
    """Of the fit's first and second star, km/s; (epoch, 2)."""
    error: Array
    """Standard deviations of ``velocity``, km/s; (epoch, 2)."""
    correlation: Array
    """Of the two velocities' errors; (epoch,)."""
    flux_ratio: Array
    """Light of the second star over that of the first, NaN where it is unknown; (epoch,)."""
    flux_ratio_error: Array
    """Standard deviation of ``flux_ratio``."""
    temperature: Array
    """Effective temperatures of both, K, NaN where unknown; (epoch, 2)."""
    temperature_error: Array
    """Standard deviations of ``temperature``, K."""


def pairs(
    source: str,
    time: ArrayLike,
    velocity: ArrayLike,
    error: ArrayLike,
    *,
    correlation: ArrayLike | None = None,
    flux_ratio: ArrayLike | None = None,
    flux_ratio_error: ArrayLike | None = None,
    temperature: ArrayLike | None = None,
    temperature_error: ArrayLike | None = None,
) -> Pairs:
    """Check what fits say of one source, and put it together; what is left out is unknown.

    Parameters
    ----------
    source, time, velocity, error, correlation, flux_ratio, flux_ratio_error, temperature, temperature_error
        The fields of :class:`Pairs`.

    Raises
    ------
    ValueError
        If lengths disagree, a velocity or a time is not finite, or an error is not above 0; the message names the
        source and the epoch.
    """
    times = np.asarray(time, dtype=np.float64)
    count = len(times)

    def column(name: str, values: ArrayLike | None, shape: tuple[int, ...], fill: float) -> Array:
        if values is None:
            return np.full(shape, fill)
        array = np.asarray(values, dtype=np.float64)
        if array.shape != shape:
            raise ValueError(
                f"{source}: {name} has the shape {array.shape}, but there are {count} times; give it the shape {shape}"
            )
        return array

    one, two = (count,), (count, 2)
    checked = Pairs(
        source,
        times,
        column("velocity", velocity, two, np.nan),
        column("error", error, two, np.nan),
        column("correlation", correlation, one, 0.0),
        column("flux_ratio", flux_ratio, one, np.nan),
        column("flux_ratio_error", flux_ratio_error, one, np.nan),
        column("temperature", temperature, two, np.nan),
        column("temperature_error", temperature_error, two, np.nan),
    )
    _refuse(source, "time", checked.time, np.isfinite(checked.time), "drop the epoch")
    _refuse(source, "velocity", checked.velocity, np.isfinite(checked.velocity), "drop the epoch")
    positive = (checked.error > 0.0) & np.isfinite(checked.error)
    _refuse(source, "error", checked.error, positive, "errors must be above 0")
    within = np.abs(checked.correlation) < 1.0
    _refuse(source, "correlation", checked.correlation, within, "correlations lie between -1 and 1")
    for name in ("flux_ratio", "temperature"):
        values, errors = getattr(checked, name), getattr(checked, f"{name}_error")
        fine = np.isnan(values) | ((values > 0.0) & np.isfinite(values))
        _refuse(source, name, values, fine, "it must be above 0, or NaN where it is unknown")
        positive = np.isnan(values) | ((errors > 0.0) & np.isfinite(errors))
        _refuse(source, f"{name}_error", errors, positive, f"give an error above 0 for each {name}, or make that NaN")
    return checked


def _refuse(source: str, name: str, values: Array, fine: NDArray[np.bool_], cure: str) -> None:
    bad = np.flatnonzero(~fine.reshape(len(fine), -1).all(axis=1))
    if len(bad):
        raise ValueError(f"{source}: epoch {bad[0]}: {name} is {values[bad[0]].tolist()}; {cure}")


def padded(sources: Sequence[Pairs], name: str, fill: float) -> Array:
    """One field of all sources, (source, epoch, ...), with ``fill`` after each one's last epoch."""
    most = max(len(source.time) for source in sources)
    first = getattr(sources[0], name)
    result = np.full((len(sources), most, *first.shape[1:]), fill)
    for row, source in enumerate(sources):
        result[row, : len(source.time)] = getattr(source, name)
    return result
