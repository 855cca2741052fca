"""Medians: of 21 successive pixels along a spectrum, by a network; and of many values, by selection."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.spectra.compiled.compiling import kernel, routine

Array = NDArray[Any]

WINDOW = 21
"""Pixels of the running median."""


@routine
def _m11(a: Any, b: Any) -> Any:
    return (a if a < b else b), (b if a < b else a)


# Sorted lists merged into one, by Batcher's odd-even merge (Batcher 1968; Knuth, TAOCP 3, 5.3.4): those with odd
# numbers and those with even ones, then neighbours. The digits are the lists' lengths.


@routine
def _m21(a: Any, b: Any) -> Any:
    low, high = _m11(a[0], b)
    mid, high = _m11(a[1], high)
    return low, mid, high


@routine
def _m22(a: Any, b: Any) -> Any:
    low, p = _m11(a[0], b[0])
    q, high = _m11(a[1], b[1])
    x, y = _m11(q, p)
    return low, x, y, high


@routine
def _m31(a: Any, b: Any) -> Any:
    odd = _m21((a[0], a[2]), b)
    x, y = _m11(a[1], odd[1])
    return odd[0], x, y, odd[2]


@routine
def _m32(a: Any, b: Any) -> Any:
    odd = _m21((a[0], a[2]), b[0])
    even = _m11(a[1], b[1])
    x1, y1 = _m11(even[0], odd[1])
    x2, y2 = _m11(even[1], odd[2])
    return odd[0], x1, y1, x2, y2


@routine
def _m33(a: Any, b: Any) -> Any:
    odd = _m22((a[0], a[2]), (b[0], b[2]))
    even = _m11(a[1], b[1])
    x1, y1 = _m11(even[0], odd[1])
    x2, y2 = _m11(even[1], odd[2])
    return odd[0], x1, y1, x2, y2, odd[3]


@routine
def _m63(a: Any, b: Any) -> Any:
    odd = _m32((a[0], a[2], a[4]), (b[0], b[2]))
    even = _m31((a[1], a[3], a[5]), b[1])
    x1, y1 = _m11(even[0], odd[1])
    x2, y2 = _m11(even[1], odd[2])
    x3, y3 = _m11(even[2], odd[3])
    x4, y4 = _m11(even[3], odd[4])
    return odd[0], x1, y1, x2, y2, x3, y3, x4, y4


@routine
def _m66(a: Any, b: Any) -> Any:
    odd = _m33((a[0], a[2], a[4]), (b[0], b[2], b[4]))
    even = _m33((a[1], a[3], a[5]), (b[1], b[3], b[5]))
    x1, y1 = _m11(even[0], odd[1])
    x2, y2 = _m11(even[1], odd[2])
    x3, y3 = _m11(even[2], odd[3])
    x4, y4 = _m11(even[3], odd[4])
    x5, y5 = _m11(even[4], odd[5])
    return odd[0], x1, y1, x2, y2, x3, y3, x4, y4, x5, y5, even[5]


@routine
def _larger(a: Any, b: Any) -> Any:
    return b if a < b else a


@routine
def _smaller(a: Any, b: Any) -> Any:
    return a if a < b else b


@routine
def _six(v: Array, i: int) -> Any:
    """Six successive values, sorted."""
    first = _m21(_m11(v[i], v[i + 1]), v[i + 2])
    return _m33(first, _m21(_m11(v[i + 3], v[i + 4]), v[i + 5]))


@routine
def running_median(values: Array, out: Array, spare: Array) -> None:
    """Medians of each 21 successive values: ``out[i]`` of those from ``values[i]`` on.

    Windows share their sorted sixes. Two sixes merge into a twelve, a six and a three into a nine; the 11th smallest of
    both is the least, over i + j = 11, of the greater of the i-th of one and the j-th of the other. There is no branch,
    so that as many pixels as a vector holds are done at once: some fifty times faster than a sorted window into which
    pixels are inserted. In two loops, as compilers give up on vectors in longer ones.

    ``out`` has up to 20 values fewer than ``values``; ``spare`` is (6, n) with n at least 15 more than ``out``.
    """
    a, b, c, d, e, f = spare[0], spare[1], spare[2], spare[3], spare[4], spare[5]
    for i in range(out.size + 12):
        a[i], b[i], c[i], d[i], e[i], f[i] = _six(values, i)
    for i in range(out.size):
        t = _m66(
            (a[i], b[i], c[i], d[i], e[i], f[i]),
            (a[i + 6], b[i + 6], c[i + 6], d[i + 6], e[i + 6], f[i + 6]),
        )
        n = _m63(
            (a[i + 12], b[i + 12], c[i + 12], d[i + 12], e[i + 12], f[i + 12]),
            _m21(_m11(values[i + 18], values[i + 19]), values[i + 20]),
        )
        m = t[10]
        m = _smaller(m, _larger(t[1], n[8]))
        m = _smaller(m, _larger(t[2], n[7]))
        m = _smaller(m, _larger(t[3], n[6]))
        m = _smaller(m, _larger(t[4], n[5]))
        m = _smaller(m, _larger(t[5], n[4]))
        m = _smaller(m, _larger(t[6], n[3]))
        m = _smaller(m, _larger(t[7], n[2]))
        m = _smaller(m, _larger(t[8], n[1]))
        out[i] = _smaller(m, _larger(t[9], n[0]))


@kernel
def running_medians(values: Array, out: Array) -> None:
    """Medians of each 21 successive pixels along rows, (spectrum, pixel); ``out`` has 20 pixels fewer."""
    spare = np.empty((6, values.shape[1]), values.dtype)
    for row in range(values.shape[0]):
        running_median(values[row], out[row], spare)


@routine
def lower_median(values: Array, count: int, spare: Array) -> Any:
    """Median of the first ``count`` values, the lower of two in the middle; NaN if there is none.

    Both arrays are overwritten. Pivots are medians of three; each pass writes to both ends of the other array, without
    a branch.
    """
    if count == 0:
        return np.nan
    low, high, rank = 0, count, (count - 1) // 2
    source, target = values, spare
    while True:
        size = high - low
        if size == 1:
            return source[low]
        a, b, c = source[low], source[low + size // 2], source[high - 1]
        pivot = _larger(_smaller(a, b), _smaller(_larger(a, b), c))
        left, right = low, high - 1
        for i in range(low, high):
            value = source[i]
            below = value < pivot
            target[left] = value
            target[right] = value
            left += below
            right -= not below
        if rank < left:
            high = left
        elif left == low:
            # Nothing is below the pivot: it is the answer, or what equals it goes.
            equal = 0
            for i in range(low, high):
                value = source[i]
                if value == pivot:
                    equal += 1
            if rank < low + equal:
                return pivot
            left = low
            for i in range(low, high):
                value = source[i]
                if value != pivot:
                    target[left + equal] = value
                    left += 1
            low += equal
        else:
            low = left
        source, target = target, source


@kernel
def medians(values: Array, out: Array) -> None:
    """Lower median of each row, (row, value), without NaN."""
    size = values.shape[1]
    some, spare = np.empty(size, values.dtype), np.empty(size, values.dtype)
    for row in range(values.shape[0]):
        for i in range(size):
            some[i] = values[row, i]
        out[row] = lower_median(some, size, spare)
