"""Prior distributions of the population's free parameters, and their names.

A prior is given by its quantile function, so that one uniform number makes one value. Priors have a form in
configuration files: a table ``{ kind = "uniform", low = 0.0, high = 1.0 }``, or the name of one of :data:`NAMED`. This
module must never know a star.

``scipy.stats`` has these distributions, and tests hold ours against it. But a training set's draws stay the same bit
for bit, and its ``ppf`` would change them: the quantiles of ``loguniform`` and ``rv_histogram`` differ from ours in the
last bits for 55 of 100 uniform numbers, ``norm`` is infinite at 0, and 64 quantiles take 50 to 80 microseconds longer.
So the quantiles are ours, a line each over ``scipy.special``, and nothing here needs a density.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri

from twinlines.cluster.settings import did_you_mean

Array = NDArray[np.float64]


class PriorError(ValueError):
    """A prior is unknown, or its parameters are no distribution."""


class Prior(Protocol):
    """A one-dimensional distribution given by its quantile function."""

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform`` in [0, 1)."""


def _ordered(name: str, low: float, high: float, above: float = -np.inf) -> None:
    if not (above < low < high < np.inf):
        limit = "" if above == -np.inf else f", low above {above:g}"
        raise PriorError(f"{name}: low is {low:g}, high is {high:g}; give finite limits, low below high{limit}")


@dataclass(frozen=True)
class Constant:
    """One value."""

    value: float
    """The value, in the parameter's unit."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.value):
            raise PriorError(f"constant: value is {self.value}; give a finite number")

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform``."""
        return np.full(np.shape(uniform), float(self.value))


@dataclass(frozen=True)
class Uniform:
    """Uniform between two limits."""

    low: float
    """Lower limit, in the parameter's unit."""
    high: float
    """Upper limit, in the parameter's unit."""

    def __post_init__(self) -> None:
        _ordered("uniform", self.low, self.high)

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform``."""
        return self.low + (self.high - self.low) * uniform


@dataclass(frozen=True)
class LogUniform:
    """Uniform in the logarithm between two positive limits."""

    low: float
    """Lower limit, in the parameter's unit."""
    high: float
    """Upper limit, in the parameter's unit."""

    def __post_init__(self) -> None:
        _ordered("log_uniform", self.low, self.high, above=0.0)

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform``."""
        return np.asarray(self.low * (self.high / self.low) ** uniform)


@dataclass(frozen=True)
class Normal:
    """Gaussian."""

    mean: float
    """Mean, in the parameter's unit."""
    sigma: float
    """Standard deviation, in the parameter's unit."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.mean) and 0.0 < self.sigma < np.inf):
            raise PriorError(f"normal: mean is {self.mean:g}, sigma is {self.sigma:g}; give a sigma above 0")

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform``; 0 is moved to the smallest double that has a quantile."""
        return self.mean + self.sigma * np.asarray(ndtri(np.maximum(uniform, np.finfo(np.float64).tiny)))


@dataclass(frozen=True)
class Gamma:
    """Gamma distribution; with shape 1 the exponential distribution."""

    shape: float
    """Shape parameter."""
    scale: float
    """Scale, in the parameter's unit; the mean is shape times scale."""

    def __post_init__(self) -> None:
        if not (0.0 < self.shape < np.inf and 0.0 < self.scale < np.inf):
            raise PriorError(f"gamma: shape is {self.shape:g}, scale is {self.scale:g}; give both above 0")

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform``."""
        return np.asarray(self.scale * gammaincinv(self.shape, uniform))


@dataclass(frozen=True)
class FlattenedSalpeter:
    """Mass function flat from ``low`` to ``knee`` and proportional to m**-slope from there to ``high``, continuous."""

    low: float = 0.1
    """Lower limit, solar masses."""
    knee: float = 1.0
    """Where the flat part ends, solar masses."""
    high: float = 2.0
    """Upper limit, solar masses."""
    slope: float = 2.35
    """Exponent of the falling part (Salpeter 1955)."""

    def __post_init__(self) -> None:
        if not (0.0 < self.low < self.knee < self.high < np.inf) or self.slope == 1.0:
            raise PriorError(
                f"flattened_salpeter: low {self.low:g}, knee {self.knee:g}, high {self.high:g}, slope {self.slope:g}; "
                "give them ascending and above 0, and a slope other than 1"
            )

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform``, by the closed inverse of both pieces."""
        power = 1.0 - self.slope
        flat = self.knee - self.low
        falling = self.knee * ((self.high / self.knee) ** power - 1.0) / power
        area = uniform * (flat + falling)
        beyond = np.maximum(area - flat, 0.0)
        falls = self.knee * (1.0 + beyond * power / self.knee) ** (1.0 / power)
        return np.asarray(np.where(area < flat, self.low + area, falls))


@dataclass(frozen=True)
class Tabulated:
    """A distribution given by points of its cumulative function, uniform between them."""

    values: tuple[float, ...]
    """Values, in the parameter's unit, ascending."""
    cumulative: tuple[float, ...]
    """Cumulative probability at each value: from 0 to 1, rising."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(value) for value in self.values))
        object.__setattr__(self, "cumulative", tuple(float(value) for value in self.cumulative))
        rises = all(np.all(np.diff(points) > 0) for points in (self.values, self.cumulative))
        ends = len(self.cumulative) > 1 and (self.cumulative[0], self.cumulative[-1]) == (0.0, 1.0)
        if len(self.values) != len(self.cumulative) or not rises or not ends:
            raise PriorError(
                f"tabulated: values {list(self.values)} with cumulative {list(self.cumulative)}; give two ascending "
                "lists of one length, cumulative from 0 to 1"
            )

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform``."""
        return np.interp(uniform, self.cumulative, self.values)


KINDS: Mapping[str, type[Any]] = {
    "constant": Constant,
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "normal": Normal,
    "gamma": Gamma,
    "flattened_salpeter": FlattenedSalpeter,
    "tabulated": Tabulated,
}
"""Distributions by the word that a configuration file has for them."""

NAMED: Mapping[str, Prior] = {
    # Field stars of types F to K: most turn slowly, one in ten above 80 km/s. Our choice, fitted to no survey.
    "survey_vsini": Tabulated(
        (0.0, 10.0, 20.0, 40.0, 80.0, 150.0, 300.0, 500.0), (0.0, 0.45, 0.7, 0.82, 0.9, 0.96, 0.99, 1.0)
    ),
    # On top of what a real star has already: half of them stay as they are, to a metre a second.
    "additional_vsini": Tabulated((0.0, 1e-3, 10.0, 40.0, 80.0, 150.0), (0.0, 0.5, 0.65, 0.85, 0.95, 1.0)),
    "giant_vsini": Gamma(2.0, 3.0),
    "red_giant_branch": Uniform(490.0, 605.0),
    "high_mass_ratio": Uniform(0.7, 1.0),
}
"""Priors that have a name: projected rotation of field stars, beyond a real star's own, and of giants (km/s), EEPs of
the red giant branch, mass ratios above 0.7."""


def parse(written: object, where: str) -> Prior:
    """Make a prior from its form in a configuration file.

    Parameters
    ----------
    written
        A name out of :data:`NAMED`, a number (a constant), or a table with ``kind`` and the distribution's parameters.
    where
        What the prior is for; named in errors.

    Raises
    ------
    PriorError
        If there is no such name, kind or parameter, naming those that there are.
    """
    if isinstance(written, bool):
        raise PriorError(f"{where}: {written} is no prior; give a name, a number or a table with 'kind'")
    if isinstance(written, int | float):
        return Constant(float(written))
    if isinstance(written, str):
        if written not in NAMED:
            meant = did_you_mean(written, NAMED)
            raise PriorError(f"{where}: no prior is called {written!r}{meant}; the names are {', '.join(NAMED)}")
        return NAMED[written]
    if not isinstance(written, Mapping) or "kind" not in written:
        raise PriorError(f"{where}: {written!r} is no prior; give a name, a number or a table with 'kind'")
    kind, parameters = written["kind"], {name: value for name, value in written.items() if name != "kind"}
    if kind not in KINDS:
        raise PriorError(
            f"{where}: no prior is of kind {kind!r}{did_you_mean(kind, KINDS)}; the kinds are {', '.join(KINDS)}"
        )
    known = [item.name for item in fields(KINDS[kind])]
    for name in parameters:
        if name not in known:
            raise PriorError(f"{where}: a prior of kind {kind!r} has no {name!r}; it has {', '.join(known)}")
    try:
        prior: Prior = KINDS[kind](**parameters)
    except TypeError as error:
        raise PriorError(
            f"{where}: {dict(written)!r} is no prior of kind {kind!r} ({error}); it has {', '.join(known)}"
        ) from error
    except PriorError as error:
        raise PriorError(f"{where}: {error}") from error
    return prior


def describe(prior: Prior) -> dict[str, Any]:
    """Form of a prior in a configuration file, as JSON; what :func:`parse` reads."""
    kinds = {cls: kind for kind, cls in KINDS.items()}
    kind, made = kinds.get(type(prior), type(prior).__name__), cast("Any", prior)
    values = ((item.name, getattr(made, item.name)) for item in fields(made))
    return {"kind": kind, **{name: list(value) if isinstance(value, tuple) else value for name, value in values}}
