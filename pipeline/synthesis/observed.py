"""The population of observed stars: real spectra as single stars, and as both stars of binaries.

What differs from other populations is here: how pairs are drawn, and how two spectra without a distance are weighed.
Rotation, velocities, noise, frames and disturbances are those of all pairs
(:mod:`twinlines.pipeline.synthesis.spectra`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.stars.tracks import State, Tracks
from twinlines.pipeline.synthesis.extra import ExtrasError, require_fraction
from twinlines.pipeline.synthesis.population import KEPT, Draws, Population, Priors, Source, uniform_words
from twinlines.pipeline.synthesis.priors import NAMED, LogUniform, Normal, Prior
from twinlines.pipeline.synthesis.realstars import MINIMUM_RELEASE_SNR, NOISE_MARGIN, RealStars

Array = NDArray[np.float64]

REFERENCE = 5800.0
"""Wavelength at which the flux ratio of two stars is drawn, Angstrom: between the arms."""


@dataclass(frozen=True)
class Observed:
    """Spectra of real stars: one alone, and the same with another, or itself, at another velocity.

    The first has its own light; the second is scaled to the drawn flux ratio. In the arms that ratio follows the black
    bodies of both temperatures, where these are known.
    """

    fraction: float = 0.0
    """Fraction of the pairs."""
    folder: Path | None = None
    """Folder of FITS tables, one star each, or of a survey's release; every worker must see it under this path."""
    stars: Path | None = None
    """CSV file that says what the stars are, and of a release which; None: ``stars.csv`` in the folder."""
    minimum_snr: float = MINIMUM_RELEASE_SNR
    """Of a release, the S/N that an exposure must have in both arms."""
    without: tuple[str, ...] = ()
    """Classes, or names, of stars that are left out."""
    separation: Prior = Normal(0.0, 130.0)
    """Velocity separation, km/s."""
    ratio: Prior = LogUniform(0.03, 1.0)
    """Flux of the second star over the first's at :data:`REFERENCE`."""
    vsini: Prior = NAMED["additional_vsini"]
    """Projected rotational velocity of either star beyond its own, km/s."""
    snr: Prior = LogUniform(5.0, 150.0)
    """Signal-to-noise ratio per pixel of the blue arm; less where a star's own noise would show."""
    red_snr: Prior = LogUniform(0.8, 2.0)
    """S/N of the red arm over the blue's."""

    def __post_init__(self) -> None:
        require_fraction("observed", self.fraction)
        if self.fraction and self.folder is None:
            raise ExtrasError("observed: there is no folder; name the one that holds the spectra of real stars")

    def load(self) -> RealStars:
        """The stars.

        Raises
        ------
        ExtrasError
            If there is no folder.
        twinlines.pipeline.synthesis.real_light.RealStarError
            If a star cannot be used.
        """
        if self.folder is None:
            raise ExtrasError("observed: there is no folder; name the one that holds the spectra of real stars")
        return RealStars.load(self.folder, self.stars, minimum_snr=self.minimum_snr, without=self.without)


@dataclass(frozen=True)
class ObservedPairs(Population):
    """Pairs of real stars; what is not known of them is NaN. Arrays of shape (draw,)."""

    star1: NDArray[np.int64]
    """Place of the first star among the real stars."""
    star2: NDArray[np.int64]
    """Place of the second star."""
    ratio_blue: Array
    """Median flux of the second star over the first's, before rotation, in the blue arm."""
    ratio_red: Array
    """The same in the red arm."""

    @property
    def double(self) -> NDArray[np.bool_]:
        """Whether there is a second star: always."""
        return np.ones(len(self.star1), dtype=bool)

    def labels(self, star: int) -> Array:
        """Places of star 1 or 2, as :class:`.RealStars` takes them, (draw, 1)."""
        return (self.star1 if star == 1 else self.star2).astype(np.float64)[:, None]

    def radii(self, arm: str) -> tuple[Array, Array]:
        """Square roots of the weights of both stars' light in an arm, (draw,) each."""
        return np.ones(len(self.star1)), np.sqrt(self.ratio_red if arm == "R" else self.ratio_blue)


@dataclass(frozen=True)
class ObservedSource:
    """An endless sequence of pairs of real stars."""

    seed: int
    """Seed of the draws."""
    code: int
    """Number of the population; see :data:`twinlines.pipeline.schema.POPULATIONS`."""
    priors: Priors
    """Distributions of velocities, rotation and S/N; masses and the like are not drawn."""
    observed: Observed
    """Which stars, and the distribution of the flux ratio."""

    def light(self, _: Library) -> RealStars:
        """What the light of the stars comes from."""
        return self.observed.load()

    def realise(self, numbers: NDArray[np.int64], _tracks: Tracks, _library: Library) -> ObservedPairs:
        """Draw pairs.

        Parameters
        ----------
        numbers
            Serial numbers of the draws, ascending, shape (draw,).

        Returns
        -------
        ObservedPairs
            All are kept. Their S/N is limited, in each arm, to half of what the stars' own noise leaves to the single
            spectrum and to the sum; both spectra of a pair have the same.
        """
        stars = self.observed.load()
        drawn = Source(self.seed, self.code, self.priors).draw(numbers)
        first = int(numbers[0])
        words = uniform_words(first, int(numbers[-1]) - first + 1, self.seed, stream=2 * self.code + 1)[numbers - first]
        star1, star2 = ((words[:, column] * len(stars)).astype(np.int64) for column in (0, 1))
        ratio = self.observed.ratio.quantile(words[:, 2])
        if not (ratio > 0.0).all():
            raise ExtrasError(f"observed: ratio {ratio.min():g} was drawn; give a prior above 0")
        in_arm = {name: ratio * _colour(stars, name, star1, star2) for name in ARM_NAMES}
        limit = {name: snr_limit(stars.snr[name], star1, star2, in_arm[name]) for name in ARM_NAMES}
        snr = np.minimum(drawn.snr, limit["B"])
        red_snr = np.minimum(drawn.snr_of("R"), limit["R"]) / snr
        unknown = np.full(len(numbers), np.nan)
        nothing = dict.fromkeys(("mass1", "mass_ratio", "alpha", "eep1"), unknown)
        draws: Draws = replace(drawn, snr=snr, red_snr=red_snr, feh=stars.feh[star1], **nothing)
        return ObservedPairs(
            draws=draws,
            primary=_state(stars, star1),
            secondary=_state(stars, star2),
            mass2=unknown,
            feh2=stars.feh[star2],
            alpha2=unknown,
            eep2=unknown,
            dilution=unknown,
            fate=np.full(len(numbers), KEPT, dtype=np.int16),
            redraws=np.zeros(len(numbers), dtype=np.int8),
            star1=star1,
            star2=star2,
            ratio_blue=in_arm["B"],
            ratio_red=in_arm["R"],
        )


def _colour(stars: RealStars, arm: str, star1: NDArray[np.int64], star2: NDArray[np.int64]) -> Array:
    """By what factor the second star's part in an arm differs from that at the reference; 1 where it is not known."""
    shade = stars.shade(arm, REFERENCE)
    colour = shade[star2] / shade[star1]
    return np.where(np.isfinite(colour), colour, 1.0)


def snr_limit(snr: Array, star1: NDArray[np.int64], star2: NDArray[np.int64], ratio: Array) -> Array:
    """S/N to which a pair is limited in an arm, so that the noise that is added hides the stars' own."""
    first, second = 1.0 / snr[star1], ratio / snr[star2]
    # The noise of a star that is both adds up, that of two stars does not.
    noise = np.where(star1 == star2, first + second, np.hypot(first, second)) / (1.0 + ratio)
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / np.maximum(first, noise) / NOISE_MARGIN)


def _state(stars: RealStars, place: NDArray[np.int64]) -> State:
    """What is known of stars."""
    known: Mapping[str, Any] = {"teff": stars.teff[place], "logg": stars.logg[place]}
    unknown = {item.name: np.full(len(place), np.nan) for item in fields(State)}
    return State(**{**unknown, **known, "reason": np.zeros(len(place), dtype=np.int8)})
