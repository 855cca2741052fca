"""The two-star fit: whose lines are where in an exposure, and how much better two stars explain it than one.

Light of one star and of two stars of the spectral library is fitted to both arms at once, many exposures together. The
two share their composition and the arms' difference of zero points; each has its labels, rotation and velocity, and the
second an area relative to the first, from which the flux ratios in both arms follow. What no spectrum of R = 7500
tells is not told: which of two like stars is the first, and faint light with deep lines from brighter light with
shallow ones. It must never know a survey, a store or a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import reduce

import torch
from torch import Tensor

from twinlines.pipeline.arms import ArmName
from twinlines.pipeline.synthesis.fitting import STAR_REACH, Observation, StarFit, inverse, project
from twinlines.pipeline.synthesis.leastsquares import Best, Limits, Terms, minimise_from
from twinlines.pipeline.synthesis.starlight import PARAMETERS, VELOCITY, VSINI, Light, Starlight

PAIR_PARAMETERS = (
    "teff1",
    "logg1",
    "feh",
    "alpha",
    "vsini1",
    "rv1",
    "teff2",
    "logg2",
    "vsini2",
    "rv2",
    "ln_area",
    "offset",
)
"""Parameters of two stars' light, in the order of every array of them; K, dex and km/s. ``ln_area`` is that of the
second star's surface over the first's, ``offset`` the red arm's zero point of velocity less the blue arm's."""

FIRST, SECOND = [0, 1, 2, 3, 4, 5], [6, 7, 2, 3, 8, 9]
"""Places of each star's parameters, in the order of :data:`.starlight.PARAMETERS`, among those of a pair."""

TEFF1, RV1, TEFF2, RV2, LN_AREA, OFFSET = 0, 5, 6, 9, 10, 11
SPINS = [4, 8]
"""Places of the rotational velocities of both."""

SINGLE_PARAMETERS = (*PARAMETERS, "offset", "dilution_B", "dilution_R")
"""Parameters of one star's light; the last two are featureless light over the star's mean, in each arm."""

DILUTION = (-0.1, 5.0)
"""Limits of featureless light; below zero is light that was taken away."""

_FAR = 60.0  # km/s, limit of the arms' offset
_ASIDE = (-200.0, 200.0)  # K, from where it stuck: across a node
_CLEAR = 50.0  # km/s, of rotation at most and of separation at least
_WORTH_A_LOOK = 25.0  # decrease of chi2 by a second star that noise hardly makes

OFFSET_SIGMA = 5.0
"""Standard deviation that arms' zero points are taken to differ by before they are measured, km/s: real exposures have
up to 5."""

LEAST_AREA, MOST_AREA = -9.0, 7.0
"""Limits of ``ln_area``."""


@dataclass(frozen=True)
class PairLight:
    """Light of pairs of stars in one arm."""

    light: Light
    """Of both together, and its derivatives by the parameters of a pair."""
    ratio: Tensor
    """The second star's mean flux over the first's, (pair,)."""
    ratio_slopes: Tensor
    """Derivatives of ln ``ratio`` by the parameters of a pair, (pair, parameter)."""


def pair_light(star: Starlight, name: ArmName, parameters: Tensor) -> PairLight:
    """Light of two stars in one arm.

    Parameters
    ----------
    star
        The light of single stars in the arm.
    name
        The arm: the offset is the red one's.
    parameters : Tensor, shape (pair, parameter) float64
        In the order of :data:`PAIR_PARAMETERS`.
    """
    pairs = len(parameters)
    stars = torch.cat([parameters[:, FIRST], parameters[:, SECOND]])
    if name == "R":
        stars[:, VELOCITY] += parameters[:, OFFSET].repeat(2)
    both = star.light(stars)
    area = parameters[:, LN_AREA].exp().to(both.flux.dtype)[:, None]
    first, second = both.flux[:pairs], area * both.flux[pairs:]
    of_first, of_second = both.slopes[:pairs], area[:, :, None] * both.slopes[pairs:]
    slopes = torch.zeros((pairs, len(PAIR_PARAMETERS), first.shape[1]), dtype=first.dtype)
    slopes[:, FIRST] = of_first
    slopes[:, SECOND] += of_second  # no place occurs twice in it
    slopes[:, LN_AREA] = second
    if name == "R":
        slopes[:, OFFSET] = of_first[:, VELOCITY] + of_second[:, VELOCITY]
    level_first, level_second = first.mean(dim=1), second.mean(dim=1)
    ratio_slopes = torch.zeros((pairs, len(PAIR_PARAMETERS)), dtype=first.dtype)
    ratio_slopes[:, FIRST] -= of_first.mean(dim=2) / level_first[:, None]
    ratio_slopes[:, SECOND] += of_second.mean(dim=2) / level_second[:, None]
    ratio_slopes[:, LN_AREA] = 1.0
    if name == "R":
        ratio_slopes[:, OFFSET] = ratio_slopes[:, RV1] + ratio_slopes[:, RV2]
    return PairLight(Light(first + second, slopes), level_second / level_first, ratio_slopes)


@dataclass(frozen=True)
class PairFit:
    """The best single star and the best pair of stars of each exposure; the first axis of every tensor is theirs."""

    single: StarFit
    """The best single star."""
    diluted: StarFit
    """The best single star under featureless light."""
    parameters: Tensor
    """Of the best pair, in the order of :data:`PAIR_PARAMETERS`; (exposure, parameter) float64. The first star is the
    one that gives more light."""
    covariance: Tensor
    """Of those, (exposure, parameter, parameter) float64; infinite where the spectrum says nothing of one."""
    chi2: Tensor
    """Of the best pair, over all arms, (exposure,) float64."""
    delta_chi2: Tensor
    """chi2 of the best single star less that of the best pair, (exposure,) float64; never below zero."""
    delta_chi2_diluted: Tensor
    """The same of the best single star under featureless light."""
    flux_ratio: Mapping[ArmName, Tensor]
    """Mean flux of the second star over the first's, by arm, (exposure,) float64."""
    flux_ratio_error: Mapping[ArmName, Tensor]
    """Its standard error, by arm, (exposure,) float64."""
    converged: Tensor
    """Whether the pair's fit came to its end, (exposure,) bool."""
    at_limit: Tensor
    """Whether a parameter lies at a limit, (exposure, parameter) bool."""
    rival: Tensor
    """The pair that came second, if it is another, (exposure, parameter) float64, else NaN."""
    rival_chi2: Tensor
    """chi2 of that, (exposure,) float64, else infinite."""
    pixels: Tensor
    """Pixels that took part, (exposure,) int64."""


def fit_pairs(
    lights: Mapping[ArmName, Starlight],
    observed: Mapping[ArmName, Observation],
    single: StarFit,
    starts: Tensor,
    *,
    trial_steps: int = 3,
    finalists: int = 2,
    most_steps: int = 25,
    tolerance: float = 3e-2,
    relative: float = 1e-5,
) -> PairFit:
    """Fit pairs of stars to exposures of which the best single star is known.

    Parameters
    ----------
    lights
        The light of stars, for each arm of ``observed``.
    observed
        Spectra of the same exposures, by arm.
    single
        From :func:`fit_single`.
    starts
        Pairs to begin with, (exposure, start, parameter) float64; brought within the limits.
    trial_steps, finalists, most_steps, tolerance, relative
        As of :func:`.leastsquares.minimise_from`.

    Raises
    ------
    ValueError
        If there is no arm to fit.
    """
    if not observed:
        raise ValueError("there is no arm to fit")
    limits = pair_limits(lights[next(iter(observed))])
    best = minimise_from(
        lambda parameters, rows: pair_terms(lights, observed, parameters, rows),
        starts,
        limits,
        trial_steps=trial_steps,
        finalists=finalists,
        most_steps=most_steps,
        tolerance=tolerance,
        relative=relative,
    )
    single = _second_look(lights, observed, single, best)
    stopped = (best.parameters <= limits.lower) | (best.parameters >= limits.upper)
    light = {name: pair_light(lights[name], name, best.parameters) for name in observed}
    turn = torch.stack([each.ratio.double() for each in light.values()]).log().mean(dim=0) > 0.0
    parameters = torch.where(turn[:, None], exchanged(best.parameters), best.parameters)
    covariance = inverse(best.terms.curvature)
    ratio, error = {}, {}
    for name, each in light.items():
        slopes, value = each.ratio_slopes.double(), each.ratio.double()
        ratio[name] = torch.where(turn, 1.0 / value, value)
        error[name] = ratio[name] * torch.einsum("ni,nij,nj->n", slopes, covariance, slopes).sqrt()
    diluted = fit_diluted(lights, observed, single)
    return PairFit(
        single=single,
        diluted=diluted,
        parameters=parameters,
        covariance=torch.where(turn[:, None, None], _exchanged_covariance(covariance), covariance),
        chi2=best.terms.chi2,
        delta_chi2=(single.chi2 - best.terms.chi2).clamp_min(0.0),
        delta_chi2_diluted=(torch.minimum(diluted.chi2, single.chi2) - best.terms.chi2).clamp_min(0.0),
        flux_ratio=ratio,
        flux_ratio_error=error,
        converged=best.converged,
        at_limit=torch.where(turn[:, None], stopped[:, _EXCHANGE], stopped),
        rival=best.rival,
        rival_chi2=best.rival_chi2,
        pixels=torch.stack([(spectra.weight > 0.0).sum(dim=1) for spectra in observed.values()]).sum(dim=0),
    )


def fit_single(lights: Mapping[ArmName, Starlight], observed: Mapping[ArmName, Observation], starts: Tensor) -> StarFit:
    """Fit one star, whose velocity may differ between the arms as a pair's may.

    Parameters
    ----------
    lights, observed
        As of :func:`fit_pairs`.
    starts
        Stars to begin with, (exposure, start, parameter) float64, in the order of :data:`.starlight.PARAMETERS`.

    Returns
    -------
    StarFit
        Its parameters are those of :data:`SINGLE_PARAMETERS`, of which those of featureless light are 0.
    """
    return _fit_single(lights, observed, _undiluted(starts, 0.0), (0.0, 0.0), trial_steps=4)


def _undiluted(stars: Tensor, offset: float | Tensor) -> Tensor:
    """Parameters of single stars without featureless light, (exposure, start, parameter)."""
    more = stars.new_zeros((*stars.shape[:2], len(SINGLE_PARAMETERS) - stars.shape[2]))
    more[:, :, 0] = offset
    return torch.cat([stars, more], dim=2)


def _second_look(
    lights: Mapping[ArmName, Starlight], observed: Mapping[ArmName, Observation], single: StarFit, best: Best
) -> StarFit:
    """The best single star, looked for once more from the first star of a pair that explains an exposure far better.

    One star that was sought from afar may have stuck, at a node of the library, where the pair's did not: then any pair
    would seem to be two stars. Slow rotators that stand apart are no such pair.
    """
    pair = best.parameters
    clear = (pair[:, SPINS] < _CLEAR).all(dim=1) & ((pair[:, RV2] - pair[:, RV1]).abs() > _CLEAR)
    rows = torch.nonzero((single.chi2 - best.terms.chi2 > _WORTH_A_LOOK) & ~clear)[:, 0]
    if not len(rows):
        return single
    mine = {name: spectra.take(rows) for name, spectra in observed.items()}
    first = best.parameters[rows]
    begin = torch.stack([first[:, FIRST], first[:, SECOND], *(first[:, FIRST] for _ in _ASIDE)], dim=1)
    begin[:, 2:, TEFF1] += torch.tensor(_ASIDE, dtype=torch.float64)
    again = _fit_single(lights, mine, _undiluted(begin, first[:, OFFSET, None]), (0.0, 0.0), trial_steps=1)
    better = again.chi2 < single.chi2[rows]
    every = {item.name: getattr(single, item.name).clone() for item in fields(StarFit)}
    for name, values in every.items():
        values[rows[better]] = getattr(again, name)[better]
    return StarFit(**every)


def fit_diluted(
    lights: Mapping[ArmName, Starlight], observed: Mapping[ArmName, Observation], single: StarFit
) -> StarFit:
    """Fit one star under featureless light, as much in each arm as suits it best, from the best single star on.

    What veils a star, and lines that are shallower than the library's, look like this.
    """
    return _fit_single(lights, observed, single.parameters[:, None], DILUTION, trial_steps=0)


def _fit_single(
    lights: Mapping[ArmName, Starlight],
    observed: Mapping[ArmName, Observation],
    starts: Tensor,
    dilution: tuple[float, float],
    *,
    trial_steps: int,
) -> StarFit:
    best = minimise_from(
        lambda parameters, rows: _single_terms(lights, observed, parameters, rows),
        starts,
        _single_limits(lights[next(iter(observed))], dilution),
        trial_steps=trial_steps,
        most_steps=30,
        tolerance=1e-2,
    )
    return StarFit(best.parameters, best.terms.chi2, inverse(best.terms.curvature), best.converged, best.from_start)


def _single_limits(star: Starlight, dilution: tuple[float, float]) -> Limits:
    def of(values: Tensor, *more: float) -> Tensor:
        return torch.cat([values, torch.tensor(more, dtype=torch.float64)])

    least, most = dilution
    return Limits(of(star.lower, -_FAR, least, least), of(star.upper, _FAR, most, most), of(STAR_REACH, _FAR, 0.5, 0.5))


def _single_terms(
    lights: Mapping[ArmName, Starlight], observed: Mapping[ArmName, Observation], parameters: Tensor, rows: Tensor
) -> Terms:
    parts = [
        project(spectra.take(rows), single_light(lights[name], name, parameters)).terms
        for name, spectra in observed.items()
    ]
    return reduce(Terms.plus, parts).plus(_offset_prior(parameters, len(PARAMETERS)))


def single_light(star: Starlight, name: ArmName, parameters: Tensor) -> Light:
    """Light of single stars, (star, parameter) in the order of :data:`SINGLE_PARAMETERS`, in one arm."""
    count = len(PARAMETERS)
    stars = parameters[:, :count].clone()
    if name == "R":
        stars[:, VELOCITY] += parameters[:, count]
    light = star.light(stars)
    place = SINGLE_PARAMETERS.index(f"dilution_{name}")
    amount = parameters[:, place].to(light.flux.dtype)
    level = light.flux.mean(dim=1, keepdim=True)
    slopes = torch.zeros((len(stars), len(SINGLE_PARAMETERS), light.flux.shape[1]), dtype=light.flux.dtype)
    slopes[:, :count] = light.slopes + (amount[:, None] * light.slopes.mean(dim=2))[:, :, None]
    if name == "R":
        slopes[:, count] = slopes[:, VELOCITY]
    slopes[:, place] = level
    return Light(light.flux + amount[:, None] * level, slopes)


def pair_terms(
    lights: Mapping[ArmName, Starlight], observed: Mapping[ArmName, Observation], parameters: Tensor, rows: Tensor
) -> Terms:
    """Terms of pairs in the spectra ``rows`` of all arms together; parameters are (row, parameter)."""
    parts = [
        project(spectra.take(rows), pair_light(lights[name], name, parameters).light).terms
        for name, spectra in observed.items()
    ]
    return reduce(Terms.plus, parts).plus(_offset_prior(parameters, OFFSET))


def _offset_prior(parameters: Tensor, place: int) -> Terms:
    count = parameters.shape[1]
    value = parameters[:, place] / OFFSET_SIGMA
    gradient = torch.zeros_like(parameters)
    gradient[:, place] = -value / OFFSET_SIGMA
    curvature = torch.zeros((len(parameters), count, count), dtype=torch.float64)
    curvature[:, place, place] = 1.0 / OFFSET_SIGMA**2
    return Terms(value.square(), gradient, curvature)


def pair_limits(star: Starlight) -> Limits:
    """Limits of a pair's parameters and steps."""

    def of(values: Tensor, area: float, offset: float) -> Tensor:
        more = torch.tensor([area, offset], dtype=torch.float64)
        return torch.cat([values[FIRST], values[[0, 1, VSINI, VELOCITY]], more])

    return Limits(of(star.lower, LEAST_AREA, -_FAR), of(star.upper, MOST_AREA, _FAR), of(STAR_REACH, 1.5, 30.0))


_EXCHANGE = [6, 7, 2, 3, 8, 9, 0, 1, 4, 5, LN_AREA, OFFSET]


def exchanged(parameters: Tensor) -> Tensor:
    """The same pairs with the second star called the first, (pair, parameter)."""
    turned = parameters[:, _EXCHANGE]
    turned[:, LN_AREA] *= -1.0
    return turned


def _exchanged_covariance(covariance: Tensor) -> Tensor:
    turned = covariance[:, _EXCHANGE][:, :, _EXCHANGE]
    turned[:, LN_AREA] *= -1.0
    turned[:, :, LN_AREA] *= -1.0
    return turned
