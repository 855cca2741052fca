"""Levenberg-Marquardt for many small problems at once, within limits; knows neither a star nor a spectrum.

A batch of problems goes on as long as any of its members does, each with a damping of its own; those that have
converged leave it. Damping follows Nielsen (1999, IMM-REP-1999-05): it falls smoothly with the ratio of the decrease
achieved to the decrease predicted, and rises ever faster while steps fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_FIRST_DAMPING = 1e-3
_LEAST_DAMPING = 1e-9
_MOST_DAMPING = 1e8  # steps are then too small to matter
_TINY = 1e-30  # where nothing depends on a parameter


@dataclass(frozen=True)
class Terms:
    """What decides the next step of some problems."""

    chi2: Tensor
    """Sum of squared residuals over their standard deviations, (problem,) float64."""
    gradient: Tensor
    """Minus half the derivative of ``chi2`` by the parameters, (problem, parameter) float64."""
    curvature: Tensor
    """Half the second derivative, without that of the model: J^T J; (problem, parameter, parameter) float64."""

    def plus(self, other: Terms) -> Terms:
        """The terms of problems that share their parameters."""
        return Terms(self.chi2 + other.chi2, self.gradient + other.gradient, self.curvature + other.curvature)

    def take(self, rows: Tensor) -> Terms:
        """The terms of the problems ``rows``."""
        return Terms(self.chi2[rows], self.gradient[rows], self.curvature[rows])

    def put(self, rows: Tensor, other: Terms) -> None:
        """Replace the terms at ``rows``."""
        self.chi2[rows], self.gradient[rows], self.curvature[rows] = other.chi2, other.gradient, other.curvature


@dataclass(frozen=True)
class Limits:
    """Where the parameters may be, and how far a step may go; each (parameter,) float64."""

    lower: Tensor
    """Least values."""
    upper: Tensor
    """Largest values."""
    reach: Tensor
    """Longest steps: beyond, a linear model of the light means nothing."""


@dataclass(frozen=True)
class Minimum:
    """Where the batch has come to."""

    parameters: Tensor
    """(problem, parameter) float64."""
    terms: Terms
    """There."""
    converged: Tensor
    """Whether the last step was not worth taking, rather than the number of steps used up; (problem,) bool."""
    steps: int
    """Most steps of any problem."""


def minimise(
    evaluate: Callable[[Tensor, Tensor], Terms],
    start: Tensor,
    limits: Limits,
    *,
    most_steps: int = 40,
    tolerance: float = 1e-3,
    relative: float = 1e-5,
) -> Minimum:
    """Minimise chi2 of many problems.

    Parameters
    ----------
    evaluate
        ``evaluate(parameters, rows)`` gives the terms of the problems ``rows``, (problem,) int64, at parameters of
        shape (problem, parameter).
    start
        Parameters to begin with, (problem, parameter) float64; brought within the limits.
    limits
        Limits of parameters and steps.
    most_steps
        Steps after which a problem is given up.
    tolerance, relative
        A problem has converged when its next step would lower chi2 by less than ``tolerance`` + ``relative`` chi2, or
        when none lowers it.

    Returns
    -------
    Minimum
        A local one. The rows of problems do not mix, but for the last bits of sums whose order depends on the batch.
    """
    here = start.clamp(limits.lower, limits.upper)
    everyone = torch.arange(len(here))
    terms = evaluate(here, everyone)
    damping = torch.full((len(here),), _FIRST_DAMPING, dtype=torch.float64)
    failures = torch.full((len(here),), 2.0, dtype=torch.float64)
    done = torch.zeros(len(here), dtype=torch.bool)
    steps = 0
    while steps < most_steps:
        rows = torch.nonzero(~done)[:, 0]
        step, predicted = _step(here[rows], terms, rows, damping[rows], limits)
        worth = predicted.abs() > tolerance + relative * terms.chi2[rows]
        # A step that is small because it is damped says nothing of the minimum.
        settled = ~worth & ((damping[rows] < 1.0) | (damping[rows] > _MOST_DAMPING))
        done[rows[settled]] = True
        rows, step, predicted = rows[~settled], step[~settled], predicted[~settled]
        if not len(rows):
            break
        steps += 1
        # Rounding must not carry a parameter beyond its limit.
        there = (here[rows] + step).clamp(limits.lower, limits.upper)
        tried = evaluate(there, rows)
        gain = terms.chi2[rows] - tried.chi2
        ratio = gain / predicted.clamp_min(_TINY)
        better = gain > 0.0
        fall = (1.0 - (2.0 * ratio.clamp_max(1.0) - 1.0) ** 3).clamp(1.0 / 3.0, 2.0)
        damping[rows] = torch.where(better, damping[rows] * fall, damping[rows] * failures[rows])
        damping.clamp_min_(_LEAST_DAMPING)
        failures[rows] = torch.where(better, 2.0, failures[rows] * 2.0)
        here[rows[better]] = there[better]
        terms.put(rows[better], Terms(tried.chi2[better], tried.gradient[better], tried.curvature[better]))
    return Minimum(here, terms, done, steps)


@dataclass(frozen=True)
class Best:
    """The lowest of the minima that several starts lead to; the first axis of every tensor is the problem's."""

    parameters: Tensor
    """(problem, parameter) float64."""
    terms: Terms
    """There."""
    converged: Tensor
    """(problem,) bool, as of :class:`Minimum`."""
    from_start: Tensor
    """Which of the starts led there, (problem,) int64."""
    rival: Tensor
    """Where the start led that came second, (problem, parameter) float64: the same place, or another minimum. NaN if
    there was one start."""
    rival_chi2: Tensor
    """chi2 there, (problem,) float64; infinite if there was one start."""


def minimise_from(
    evaluate: Callable[[Tensor, Tensor], Terms],
    starts: Tensor,
    limits: Limits,
    *,
    trial_steps: int = 4,
    finalists: int = 2,
    most_steps: int = 40,
    tolerance: float = 1e-3,
    relative: float = 1e-5,
) -> Best:
    """Minimise chi2 of many problems, each from several starts.

    Parameters
    ----------
    evaluate
        As of :func:`minimise`; a problem may be asked for at several places at once.
    starts
        Parameters to begin with, (problem, start, parameter) float64; brought within the limits.
    limits
        Limits of parameters and steps.
    trial_steps, finalists
        Each start goes so many steps; the best so many of them go on to their minima.
    most_steps, tolerance, relative
        As of :func:`minimise`.

    Returns
    -------
    Best
        Its chi2 is at most that of the best start.
    """
    problems, count, size = starts.shape

    def search(begin: Tensor, owner: Tensor, steps: int) -> Minimum:
        def evaluate_of(parameters: Tensor, rows: Tensor) -> Terms:
            return evaluate(parameters, owner[rows])

        return minimise(evaluate_of, begin, limits, most_steps=steps, tolerance=tolerance, relative=relative)

    trial = search(starts.reshape(-1, size), torch.arange(problems).repeat_interleave(count), trial_steps)
    order = trial.terms.chi2.view(problems, count).argsort(dim=1)[:, : min(finalists, count)]
    begin = trial.parameters.view(problems, count, size).gather(1, order[:, :, None].expand(-1, -1, size))
    finals = order.shape[1]
    final = search(begin.flatten(0, 1), torch.arange(problems).repeat_interleave(finals), most_steps)
    ranked = final.terms.chi2.view(problems, finals).argsort(dim=1)
    first = torch.arange(problems) * finals + ranked[:, 0]
    alone = finals == 1
    second = first if alone else torch.arange(problems) * finals + ranked[:, 1]
    return Best(
        parameters=final.parameters[first],
        terms=final.terms.take(first),
        converged=final.converged[first],
        from_start=order[torch.arange(problems), ranked[:, 0]],
        rival=torch.full_like(final.parameters[first], torch.nan) if alone else final.parameters[second],
        rival_chi2=torch.full((problems,), torch.inf, dtype=torch.float64) if alone else final.terms.chi2[second],
    )


def _step(here: Tensor, terms: Terms, rows: Tensor, damping: Tensor, limits: Limits) -> tuple[Tensor, Tensor]:
    """The damped step of each problem, within the limits, and the decrease of chi2 that it promises."""
    gradient, curvature = terms.gradient[rows], terms.curvature[rows]
    low, high = limits.lower - here, limits.upper - here
    free = torch.ones_like(gradient, dtype=torch.bool)
    step = torch.zeros_like(gradient)
    # A parameter that wants to go beyond its limit goes there; then the others may want something else.
    for _ in range(3):
        rest = gradient - torch.bmm(curvature, torch.where(free, 0.0, step)[:, :, None])[:, :, 0]
        step = torch.where(free, _solve(rest, curvature, damping, free), step)
        free &= (step >= low) & (step <= high)
        step = step.clamp(low, high)
    step = step * (limits.reach / step.abs().clamp_min(_TINY)).amin(dim=1, keepdim=True).clamp_max(1.0)
    predicted = 2.0 * (step * gradient).sum(dim=1) - torch.einsum("ni,nij,nj->n", step, curvature, step)
    return step, predicted


def _solve(gradient: Tensor, curvature: Tensor, damping: Tensor, free: Tensor) -> Tensor:
    """Solve (J^T J + damping diag(J^T J)) step = gradient for the free parameters; the others get 0."""
    scale = curvature.diagonal(dim1=1, dim2=2).clamp_min(_TINY).sqrt()
    both = free[:, :, None] & free[:, None, :]
    matrix = torch.where(both, curvature / (scale[:, :, None] * scale[:, None, :]), 0.0)
    matrix.diagonal(dim1=1, dim2=2).add_(torch.where(free, damping[:, None] + 1e-12, 1.0))
    right = torch.where(free, gradient / scale, 0.0)
    lower, _ = torch.linalg.cholesky_ex(matrix)
    return torch.cholesky_solve(right[:, :, None], lower)[:, :, 0] / scale
