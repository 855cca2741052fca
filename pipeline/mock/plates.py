"""Plates of a mock survey: which stars are observed together, where on the sky, when; and their exposures.

A plate is somewhere on the sky, is observed on a few nights, and each of its stars keeps its fibre. Knows no files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Column, Table
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ARMS, SPEED_OF_LIGHT, ArmName
from twinlines.pipeline.lamost.moonlight import moonlight_velocity
from twinlines.pipeline.lamost.times import LOCAL_MINUS_UTC, MINUTES_PER_DAY, SITE_LONGITUDE, bjd_tdb
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.mock.spectra import Detector, Frames, expose
from twinlines.pipeline.mock.stars import MockStars
from twinlines.pipeline.synthesis.spectra import Stars, component

Array = NDArray[np.float64]

SPECTROGRAPHS = 16
FIBRES = 250

_FIRST_NIGHT, _LAST_NIGHT = 58060, 58620  # local modified Julian days of the survey's first two seasons
_SIDEREAL = 360.98564737  # turn of the sky in a day, degrees
_SUN = (5777.0, 4.44, 0.0, 0.0)  # labels
_MOONLIGHT = (0.05, 0.5)  # of a star's light, where there is any
_FIELD = 2.4  # radius of the field of view, degrees


@dataclass(frozen=True)
class Night:
    """One night of a plate."""

    lmjd: int
    """Local modified Julian day: that of the morning."""
    sequence: int
    """Serial number in the release; heads the obsid."""
    start: Array
    """Start of each exposure, local modified Julian date, whole seconds."""
    transparency: Array
    """Factor of the S/N of each exposure; 0 if the night is ruined."""

    @property
    def ruined(self) -> bool:
        """Whether the exposures hold only noise."""
        return not self.transparency.any()


@dataclass(frozen=True)
class Plate:
    """Stars that are observed together; arrays of shape (star,)."""

    planid: str
    """Plan identifier."""
    star: NDArray[np.int64]
    """Serial numbers of the stars."""
    ra: Array
    """Right ascension, degrees."""
    dec: Array
    """Declination, degrees."""
    spid: NDArray[np.int64]
    """Spectrograph."""
    fiberid: NDArray[np.int64]
    """Fibre."""
    exptime: float
    """Exposure time, s."""
    nights: tuple[Night, ...]
    """When it was observed."""

    def obsid(self, night: Night) -> NDArray[np.int64]:
        """Observation identifiers of its stars in a night, made as the survey makes them."""
        return night.sequence * 100_000 + self.spid * 1000 + self.fiberid


def draw_plates(
    stars: int,
    per_plate: int,
    nights: tuple[int, int],
    exposures: tuple[int, int],
    ruined: int,
    rng: np.random.Generator,
) -> list[Plate]:
    """Distribute stars over plates and draw where and when those are observed.

    Parameters
    ----------
    stars
        Number of stars.
    per_plate
        Most stars of a plate.
    nights, exposures
        Fewest and most good nights of a plate, and exposures of a night.
    ruined
        Ruined nights in all; each is a further night of a plate, one after the other.
    rng
        Source of randomness.
    """
    count = -(-stars // per_plate)
    plates = []
    for number, members in enumerate(np.array_split(np.arange(stars), count)):
        bad = len(range(number, ruined, count))
        plates.append(_draw_plate(number, members, nights, exposures, bad, rng))
    return plates


def _draw_plate(
    number: int,
    members: NDArray[np.int64],
    nights: tuple[int, int],
    exposures: tuple[int, int],
    ruined: int,
    rng: np.random.Generator,
) -> Plate:
    first = int(rng.integers(_FIRST_NIGHT, _LAST_NIGHT))
    dec0 = float(rng.uniform(-5.0, 50.0))
    ra0 = (_sky_overhead(first) + float(rng.uniform(-25.0, 25.0))) % 360.0
    exptime = float(rng.choice([600.0, 900.0, 1200.0], p=[0.1, 0.3, 0.6]))
    good = int(rng.integers(nights[0], nights[1] + 1))
    days = first + np.concatenate([[0], np.cumsum(rng.integers(1, 11, good + ruined - 1))])
    bad = set(rng.choice(good + ruined, ruined, replace=False).tolist())
    drawn = []
    for index, lmjd in enumerate(days.tolist()):
        # Begin around the time when the plate is highest, but in the dark.
        transit = ((ra0 - _sky_overhead(lmjd) + 180.0) % 360.0 - 180.0) / _SIDEREAL
        begin = lmjd + max(transit + float(rng.uniform(-0.08, 0.02)), -0.2)
        count = int(rng.integers(exposures[0], exposures[1] + 1))
        overhead = rng.uniform(180.0, 260.0, count)  # read-out, s
        seconds = np.round(begin * 86400.0 + np.concatenate([[0.0], np.cumsum(exptime + overhead[:-1])]))
        transparency = rng.uniform(0.75, 1.15) * rng.uniform(0.85, 1.1, count)
        drawn.append(
            Night(lmjd, 1000 + 20 * number + index, seconds / 86400.0, transparency * (0.0 if index in bad else 1.0))
        )
    angle, distance = rng.uniform(0.0, 2.0 * np.pi, len(members)), _FIELD * np.sqrt(rng.uniform(size=len(members)))
    dec = dec0 + distance * np.sin(angle)
    spectrographs = rng.choice(np.arange(1, SPECTROGRAPHS + 1), 4, replace=False)
    places = rng.choice(4 * FIBRES, len(members), replace=False)
    return Plate(
        planid=_planid(ra0, dec0),
        star=members,
        ra=np.round((ra0 + distance * np.cos(angle) / np.cos(np.radians(dec))) % 360.0, 6),
        dec=np.round(dec, 6),
        spid=spectrographs[places // FIBRES],
        fiberid=places % FIBRES + 1,
        exptime=exptime,
        nights=tuple(drawn),
    )


def _sky_overhead(lmjd: int) -> float:
    """Local sidereal time at the midnight at which local day ``lmjd`` begins, degrees (Meeus 1998, chapter 12)."""
    return float((280.46061837 + _SIDEREAL * (lmjd - LOCAL_MINUS_UTC - 51544.5) + SITE_LONGITUDE) % 360.0)


def _planid(ra: float, dec: float) -> str:
    hours, degrees = int(ra / 15.0 * 3600.0), int(abs(dec) * 3600.0)
    parts = [f"{value // 3600:02d}{value // 60 % 60:02d}{value % 60:02d}" for value in (hours, degrees)]
    return f"TD{parts[0]}{'N' if dec >= 0 else 'S'}{parts[1]}T01"


def observe(
    plate: Plate,
    population: MockStars,
    snr: dict[ArmName, Array],
    detectors: dict[ArmName, dict[int, Detector]],
    library: Library,
    cosmic_rays: float,
    rng: np.random.Generator,
    *,
    moonlight: float = 0.0,
) -> tuple[Table, dict[ArmName, Frames]]:
    """Observe a plate: the truth, a row per exposure and star, and the frames of both arms in the same order.

    Parameters
    ----------
    plate
        The plate.
    population
        All stars of the release.
    snr
        Wanted S/N of all stars by arm at transparency 1.
    detectors
        Detectors by arm and spectrograph.
    library
        The spectral library.
    cosmic_rays
        Mean number of cosmic rays in an exposure of one arm.
    rng
        Source of randomness.
    moonlight
        Chance that in a night there is the Moon's light in a star's fibre, in all of its exposures while the Moon is
        up: the Sun's spectrum, with 0.05 to 0.5 of the star's light, which the truth's column ``moonlight`` has.

    Returns
    -------
    truth
        Rows in the order night, star, exposure.
    frames
        Exposures by arm.
    """
    place, night, start, transparency = (
        np.concatenate(column)
        for column in zip(
            *(
                (
                    np.repeat(np.arange(len(plate.star)), len(item.start)),
                    np.full(len(plate.star) * len(item.start), index),
                    np.tile(item.start, len(plate.star)),
                    np.tile(item.transparency, len(plate.star)),
                )
                for index, item in enumerate(plate.nights)
            ),
            strict=True,
        )
    )
    middle = start + plate.exptime / 2.0 / 86400.0 - LOCAL_MINUS_UTC
    ra, dec, star = plate.ra[place], plate.dec[place], plate.star[place]
    bjd = bjd_tdb(middle, ra, dec)
    # The velocity correction is the rate at which the light travel time grows, here over 0.1 d (good to 0.01 km/s).
    ahead, behind = bjd_tdb(middle + 0.05, ra, dec), bjd_tdb(middle - 0.05, ra, dec)
    correction = SPEED_OF_LIGHT * ((ahead - behind) / 0.1 - 1.0)
    stars = population.take(star)
    velocity1, velocity2 = stars.velocities(bjd)
    frames, ratios = {}, {}
    moonshine = moonlight_velocity(middle, ra, dec) if moonlight > 0.0 else correction
    moon = _moon(moonlight, len(plate.nights), len(plate.star), rng)[night, place]
    moon = np.where(np.isfinite(moonshine), moon, 0.0)
    for name in ARM_NAMES:
        light, ratios[name] = _light(name, library, stars, velocity1, velocity2)
        _shine(name, light, library, moon, moonshine)
        wanted = snr[name][star] * transparency
        frames[name] = expose(name, detectors[name], plate.spid[place], light, correction, wanted, cosmic_rays, rng)
    lmjd = np.array([item.lmjd for item in plate.nights])[night]
    obsid = np.stack([plate.obsid(item) for item in plate.nights])[night, place]
    columns: list[tuple[str, NDArray[np.generic], str | None]] = [
        ("star", star, None),
        ("kind", stars.kind, None),
        ("obsid", obsid, None),
        ("lmjm", np.floor(start * MINUTES_PER_DAY + 1e-6).astype(np.int64), "min"),
        ("bjdmid", bjd, "d"),
        ("lmjd", lmjd, "d"),
        ("start", start, "d"),
        ("planid", np.full(len(star), plate.planid), None),
        ("spid", plate.spid[place], None),
        ("fiberid", plate.fiberid[place], None),
        ("ra", ra, "deg"),
        ("dec", dec, "deg"),
        ("correction", correction, "km/s"),
        ("v1", velocity1, "km/s"),
        ("v2", velocity2, "km/s"),
        ("delta_v", velocity2 - velocity1, "km/s"),
        *((f"snr_{name}", frames[name].snr, None) for name in ARM_NAMES),
        *((f"light_ratio_{name}", ratios[name], None) for name in ARM_NAMES),
        *((f"cosmic_rays_{name}", frames[name].cosmic_rays, None) for name in ARM_NAMES),
        *([("moonlight", moon, None)] if moonlight > 0.0 else []),
        ("q", stars.mass_ratio, None),
        ("mass1", stars.mass1, "solMass"),
        ("feh", stars.feh, None),
        ("alpha", stars.alpha, None),
        ("teff1", stars.teff1, "K"),
        ("logg1", stars.logg1, None),
        ("radius1", stars.radius1, "solRad"),
        ("vsini1", stars.vsini1, "km/s"),
        ("teff2", stars.teff2, "K"),
        ("logg2", stars.logg2, None),
        ("radius2", stars.radius2, "solRad"),
        ("vsini2", stars.vsini2, "km/s"),
        ("period", stars.period, "d"),
        ("systemic", stars.systemic, "km/s"),
        ("amplitude1", stars.amplitude1, "km/s"),
        ("amplitude2", stars.amplitude2, "km/s"),
    ]
    return Table([Column(values, name=name, unit=unit) for name, values, unit in columns]), frames


def _moon(chance: float, nights: int, stars: int, rng: np.random.Generator) -> Array:
    """The Moon's light over a star's, by night and star."""
    if chance <= 0.0:
        return np.zeros((nights, stars))
    light = np.exp(rng.uniform(np.log(_MOONLIGHT[0]), np.log(_MOONLIGHT[1]), (nights, stars)))
    return np.where(rng.uniform(size=light.shape) < chance, light, 0.0)


def _shine(name: ArmName, light: NDArray[np.float32], library: Library, moon: Array, velocity: Array) -> None:
    """Add the Sun's light, at the velocity that the Moon's has, to the rows of ``light``, in place."""
    rows = np.flatnonzero(moon)
    if len(rows):
        ones = np.ones(len(rows))
        sun = Stars(np.tile(_SUN, (len(rows), 1)), ones, 2.0 * ones, velocity[rows])
        more = component(ARMS[name], library, sun, whole=True).numpy()
        share = moon[rows] * np.median(light[rows], axis=1) / np.median(more, axis=1)
        light[rows] += (share[:, None] * more).astype(np.float32)


def _light(
    name: ArmName, library: Library, stars: MockStars, velocity1: Array, velocity2: Array
) -> tuple[NDArray[np.float32], Array]:
    """Light of each row of stars in one arm, and the secondary's over the primary's, 0 without a secondary."""
    arm = ARMS[name]
    light = component(arm, library, Stars(stars.labels1, stars.radius1, stars.vsini1, velocity1), whole=True).numpy()
    ratio = np.zeros(len(light))
    double = np.isfinite(velocity2)
    if double.any():
        both = stars.take(np.flatnonzero(double))
        second = Stars(both.labels2, both.radius2, both.vsini2, velocity2[double])
        more = component(arm, library, second, whole=True).numpy()
        ratio[double] = np.median(more, axis=1) / np.median(light[double], axis=1)
        light[double] += more
    return light, ratio
