"""Quality bits in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.schema import MAXIMUM_BAD_PIXELS, MINIMUM_SNR, Quality

_WORDS = {
    Quality.NO_ARM: "no spectrum of this arm",
    Quality.LOW_SNR: f"S/N of {MINIMUM_SNR:g} or less",
    Quality.BAD_PIXELS: f"{MAXIMUM_BAD_PIXELS} or more bad pixels",
    Quality.DESPIKE_FAILED: "too many spikes to repair",
    Quality.NO_CONTINUUM: "no continuum",
    Quality.NO_VELOCITY: "no velocity",
    Quality.AMBIGUOUS_VELOCITY: "another velocity is as good, or the template explains little",
    Quality.OFF_GRID: "does not cover the arm's wavelengths at rest",
    Quality.UNFAMILIAR: "no star or pair of stars of the library explains the spectrum",
    Quality.ONE_ARM: "the other arm is not judged",
}


@overload
def explain(quality: int | np.integer) -> str: ...
@overload
def explain(quality: NDArray[np.integer] | Sequence[int]) -> NDArray[np.str_]: ...
@overload
def explain(quality: xr.DataArray) -> xr.DataArray: ...


def explain(
    quality: int | np.integer | NDArray[np.integer] | Sequence[int] | xr.DataArray,
) -> str | NDArray[np.str_] | xr.DataArray:
    """Say in words what quality bits mean.

    Parameters
    ----------
    quality
        Bits of :class:`twinlines.pipeline.schema.Quality`: a number, an array or a list of them, or a column such as
        ``quality_B``.

    Returns
    -------
    str, array or DataArray
        "good", or what is the matter, several things joined by "; ". Of the shape of ``quality``.

    Raises
    ------
    ValueError
        If there is a bit that has no meaning, a number that is not whole, or the column has bits of its own, such as
        ``fit_quality``.

    Examples
    --------
    >>> import twinlines as tw
    >>> tw.explain(34)
    'S/N of 5 or less; no velocity'
    """
    if isinstance(quality, xr.DataArray):
        if quality.name is not None and not str(quality.name).startswith("quality"):
            raise ValueError(
                f"the bits of {quality.name!r} are not those of quality_B and quality_R; those of a fit are "
                "twinlines.pipeline.binaries.schema.FitQuality: FitQuality(8).name"
            )
        words = xr.DataArray(explain(quality.values), quality.coords, quality.dims, quality.name)
        return words.assign_attrs(long_name=quality.attrs.get("long_name", "Quality"))
    values = np.asarray(quality)
    if values.size and values.dtype.kind not in "iu":
        raise ValueError(f"qualities are {values.dtype}; they are whole numbers, sums of bits")
    codes, places = np.unique(values, return_inverse=True)
    words_of = np.array([_explain(int(code)) for code in codes], dtype=np.str_)
    if values.ndim == 0 and not isinstance(quality, np.ndarray):
        return str(words_of[0])
    return words_of[places.reshape(values.shape)] if values.size else np.empty(values.shape, dtype=np.str_)


def _explain(code: int) -> str:
    unknown = code & ~sum(_WORDS)
    if code < 0 or unknown:
        raise ValueError(
            f"{code} has bits without a meaning; a quality is a sum of some of {[int(bit) for bit in _WORDS]}"
        )
    return "; ".join(words for bit, words in _WORDS.items() if code & bit) or "good"
