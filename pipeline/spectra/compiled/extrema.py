"""Running maxima along a spectrum, by doubling; and the loops that set and copy values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.spectra.compiled.compiling import kernel, routine

Array = NDArray[Any]

# Loops instead of slices that are set: what Numba says of slices that do not fit takes seconds to compile.


@routine
def put(values: Array, start: int, stop: int, value: Any) -> None:
    """Set the values from ``start`` to ``stop`` that there are."""
    for i in range(max(start, 0), min(stop, values.size)):
        values[i] = value


@routine
def copy(values: Array, size: int, out: Array, place: int) -> None:
    """Copy the first ``size`` values to ``place``."""
    for i in range(size):
        out[place + i] = values[i]


@routine
def _larger_of(values: Array, step: int, out: Array) -> None:
    """Set ``out`` to the larger of each value and the one ``step`` later."""
    later = values[step:]
    for i in range(later.size):
        a, b = values[i], later[i]
        out[i] = a if a > b else b


@routine
def running_maximum(values: Array, size: int, other: Array) -> Array:
    """Maximum of each ``size`` successive values, by doubling; the last values mean nothing.

    It is in one of the two arrays, which are overwritten: what is written must not lie where it is read, else
    compilers give up on vectors.
    """
    covered = 1
    while covered < size:
        step = min(covered, size - covered)
        _larger_of(values, step, other)
        covered += step
        values, other = other, values
    return values


@kernel
def running_maxima(values: Array, size: int, out: Array) -> None:
    """Maxima of each ``size`` successive pixels along rows, (spectrum, pixel); ``out`` has ``size`` - 1 fewer."""
    some, other = np.empty(values.shape[1], values.dtype), np.empty(values.shape[1], values.dtype)
    for row in range(values.shape[0]):
        copy(values[row], some.size, some, 0)
        copy(running_maximum(some, size, other), out.shape[1], out[row], 0)
