"""Computes the packaged track table from the formulae of Hurley, Pols and Tout (2000, MNRAS 315, 543).

The formulae are evaluated by ``cosmic-popsynth`` (Breivik et al. 2020, ApJ 898, 71), the extra ``tracks``. They know no
EEPs, so ours are defined here, as smooth functions of mass and [Fe/H] with MIST's primary points:

* 202 to 454, main sequence: uniform in age from the end of the star's contraction (:func:`contraction_age`, which the
  formulae do not describe) to the end of the main sequence. MIST's EEP 353, where 0.3 of the core's mass is still
  hydrogen, comes at 60 % of it, where a core that burns at a steady rate has 0.28.
* 454 to 490, Hertzsprung gap or subgiant branch: uniform in age, along which the formulae's log L and log R are linear.
* 490 to 605, giant branch: uniform in log L up to the ignition of helium.

Run it as ``python -m twinlines.pipeline.stars.hurley OUT.zarr.zip``; it takes about a minute and a half.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.stars import store
from twinlines.pipeline.stars.tracks import RGB_TIP, SOLAR_TEFF, TAMS, ZAMS, Tracks

SOLAR_Z = 0.014
"""Metal mass fraction at [Fe/H] = 0 (the Sun's today, Asplund et al. 2009). With it the formulae's Sun has log L -0.02
and 5753 K at 4.6 Gyr, and [Fe/H] -2..+0.3 lies within their range of Z, 1e-4 to 0.03."""

REIMERS_ETA = 0.1
"""Mass loss on the giant branch, as in the MIST tracks (Choi et al. 2016); the formulae's own value is 0.5."""

GIANT_BASE = 490
"""EEP of the base of the giant branch, ours: MIST has no primary point there."""

CUT_AGE = 30.0e9
"""Tracks are stored up to this age, years: neighbours of any star younger than the universe are there."""

MASSES = np.round(np.arange(0.1, 2.2001, 0.025), 3)
"""Initial masses, solar masses."""

FEHS = np.round(np.arange(-2.0, 0.3001, 0.1), 2)
"""[Fe/H], dex."""

EEPS = np.concatenate(
    [
        np.arange(start, stop, step, dtype=np.float64)
        for start, stop, step in (
            (ZAMS, 206, 1),
            (206, 214, 2),
            (214, 446, 4),
            (446, TAMS, 1),
            (TAMS, GIANT_BASE, 4),
            (GIANT_BASE, 602, 3),
            (602, RGB_TIP + 1, 1),
        )
    ]
)
"""EEPs that are stored: dense where age or the hook at the end of the main sequence bend."""

_COLUMNS = ["tphys", "kstar_1", "mass_1", "lum_1", "rad_1"]
_GAP, _GIANT, _HELIUM = 2, 3, 4  # stellar types of Hurley et al.; 0 and 1 are the main sequence
_FOREVER = 1.0e8  # Myr; longer than any star of at least 0.1 Msun stays on the main sequence

Array = NDArray[np.float64]


class MissingCosmicError(ImportError):
    """The package that evaluates the formulae is not installed."""


def make(out: str | Path, masses: Array = MASSES, fehs: Array = FEHS) -> Tracks:
    """Compute a track table, write it to ``out`` and return it.

    Parameters
    ----------
    out
        File to write, for :meth:`twinlines.pipeline.stars.tracks.Tracks.load`.
    masses, fehs
        Initial masses in solar masses and [Fe/H] in dex, ascending.

    Raises
    ------
    MissingCosmicError
        If ``cosmic-popsynth`` is not installed.
    ValueError
        If a metallicity is outside the formulae's range, or a star does not end on the giant branch.
    """
    tables = np.full((4, fehs.size, masses.size, EEPS.size), np.nan)
    for row, feh in enumerate(fehs):
        for column, history in enumerate(evolve(masses, float(feh))):
            tables[:, row, column] = _at_eeps(history, f"{masses[column]:g} Msun at [Fe/H] {feh:g}")
    attrs = {
        "source": "Hurley, Pols and Tout (2000, MNRAS 315, 543), evaluated by cosmic-popsynth " + _cosmic().version,
        "solar_z": SOLAR_Z,
        "reimers_eta": REIMERS_ETA,
    }
    write_grid(out, masses, fehs, tables, attrs)
    return Tracks.load(out)


def write_grid(out: str | Path, masses: Array, fehs: Array, tables: Array, attrs: Mapping[str, object]) -> str:
    """Write log age, log L, log Teff and current mass, (4, feh, mass, eep), as a store of tracks; return its digest.

    Ages keep float32's precision; log L, log Teff and mass are rounded to 1.2e-4, 1.5e-5 and 6e-5 (powers of two), far
    below the formulae's accuracy, which halves the file.
    """
    feh, mass = (axis.ravel() for axis in np.meshgrid(fehs, masses, indexing="ij"))
    log_age, log_l, log_teff, star_mass = tables.reshape(4, mass.size, -1)
    columns: dict[str, NDArray[Any]] = {
        "feh": feh,
        "alpha": np.zeros(mass.size),
        "mass": mass,
        "metals": SOLAR_Z * 10.0**feh,
        "rotation": np.zeros(mass.size),
        "models": np.full(mass.size, "Hurley, Pols and Tout (2000)", dtype=object),
        "log_age": log_age.astype(np.float32),
        "log_l": np.round(log_l * 2.0**13) / 2.0**13,
        "log_teff": np.round(log_teff * 2.0**16) / 2.0**16,
        "star_mass": np.round(star_mass * 2.0**14) / 2.0**14,
    }
    return store.write(out, columns, EEPS, attrs)


def contraction_age(mass: float) -> float:
    """Age in years at which a star of ``mass`` solar masses has contracted to the main sequence.

    A broken power law through the PARSEC 1.2S tracks of solar composition (Bressan et al. 2012; Chen et al. 2014) at
    EEP 202, within 35 %: 4e7 years for the Sun, 2.5e9 at 0.1 solar masses, 6.5e6 at 2.
    """
    return float(4.0e7 * mass ** (-1.8 if mass < 1.0 else -2.6))


def evolve(masses: Array, feh: float) -> list[Array]:
    """Evaluate the formulae for single stars of one composition.

    Parameters
    ----------
    masses
        Initial masses, solar masses, shape (n,).
    feh
        [Fe/H], dex.

    Returns
    -------
    histories : list of n arrays (step, 5)
        Age in years, stellar type (0 and 1 main sequence, 2 Hertzsprung gap, 3 giant branch, 4 core helium burning),
        current mass, luminosity and radius in solar units.

    Raises
    ------
    MissingCosmicError
        If ``cosmic-popsynth`` is not installed.
    ValueError
        If the metallicity is outside the formulae's range.
    """
    z = SOLAR_Z * 10.0**feh
    if not 1.0e-4 <= z <= 0.03:
        raise ValueError(f"[Fe/H] {feh:g} is Z = {z:.3g}; the formulae of Hurley et al. hold from 1e-4 to 0.03")
    cosmic = _cosmic()
    n = masses.size
    stars = cosmic.InitialBinaryTable.InitialBinaries(
        m1=masses,
        m2=np.zeros(n),
        porb=np.full(n, -1.0),
        ecc=np.full(n, -1.0),
        tphysf=np.full(n, _FOREVER),
        kstar1=np.where(masses < 0.7, 0, 1),
        kstar2=np.full(n, 15),
        metallicity=np.full(n, z),
    )
    # The package warns about pandas' idioms, and its Fortran part notes in a file fort.99 in the current folder that it
    # stopped following remnants, which are not used.
    with TemporaryDirectory() as scratch, contextlib.chdir(scratch), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, steps, _, _ = cosmic.Evolve.evolve(
            initialbinarytable=stars,
            BSEDict=cosmic.settings | {"neta": REIMERS_ETA},
            SSEDict={"stellar_engine": "sse"},
            bcm_columns=_COLUMNS,
            dtp=0.0,  # every step
            randomseed=1,
        )
    numbers = steps["bin_num"].to_numpy()
    values = steps[_COLUMNS].to_numpy(dtype=np.float64)
    values[:, 0] *= 1.0e6
    return [values[numbers == number] for number in range(n)]


def _at_eeps(history: Array, star: str) -> Array:
    """Resample a history to :data:`EEPS`: log age, log L, log Teff, current mass, (4, eep); NaN after the cut."""
    kind = history[:, 1]
    gap, giant = np.flatnonzero(kind == _GAP), np.flatnonzero(kind == _GIANT)
    if not gap.size or not giant.size:
        raise ValueError(f"the formulae do not bring {star} to the giant branch")
    helium_ignites = bool((kind == _HELIUM).any())
    if not helium_ignites and history[giant[-1], 0] < CUT_AGE:
        raise ValueError(f"the formulae let {star} lose its envelope before helium ignites: it has no tip; lower neta")
    # Columns: age, current mass, log L, log R. A phase's last point is the next one's first, where both formulae agree.
    track = np.column_stack([history[:, 0], history[:, 2], np.log10(history[:, 3]), np.log10(history[:, 4])])
    main_sequence, crossing, branch = track[: gap[0] + 1], track[gap[0] : giant[0] + 1], track[giant]
    branch = branch[: int(np.argmax(branch[:, 2])) + 1]

    on_main_sequence, on_branch = EEPS <= TAMS, EEPS > GIANT_BASE
    in_gap = ~on_main_sequence & ~on_branch
    fraction = (EEPS[on_main_sequence] - ZAMS) / (TAMS - ZAMS)
    contracted, turnoff, base = contraction_age(track[0, 1]), crossing[0, 0], crossing[-1, 0]
    ages_before = contracted + fraction * (turnoff - contracted)
    ages_across = turnoff + (EEPS[in_gap] - TAMS) / (GIANT_BASE - TAMS) * (base - turnoff)
    first, last = branch[0, 2], branch[-1, 2]
    log_l_after = first + (EEPS[on_branch] - GIANT_BASE) / (RGB_TIP - GIANT_BASE) * (last - first)
    parts = [
        _resampled(main_sequence, 0, ages_before),
        _resampled(crossing, 0, ages_across),
        _resampled(branch, 2, log_l_after),
    ]
    age, star_mass, log_l, log_r = np.concatenate(parts, axis=1)
    log_teff = np.log10(SOLAR_TEFF) + 0.25 * log_l - 0.5 * log_r
    result = np.stack([np.log10(age), log_l, log_teff, star_mass])
    # One model beyond the cut is kept, so that every track that is cut ends beyond it.
    result[:, 1:][:, age[:-1] > CUT_AGE] = np.nan
    return result


def _resampled(phase: Array, key: int, wanted: Array) -> Array:
    """Interpolate the columns of a phase (step, 4) to where its column ``key`` has the values ``wanted``: (4, n)."""
    return np.stack([np.interp(wanted, phase[:, key], column) for column in phase.T])


@dataclass(frozen=True)
class _Cosmic:
    """The parts of cosmic-popsynth that are used."""

    InitialBinaryTable: Any
    Evolve: Any
    settings: dict[str, Any]
    """Its default settings; all but the giants' mass loss are without effect on single stars below 2.2 Msun."""
    version: str


def _cosmic() -> _Cosmic:
    """Import cosmic-popsynth and read its default settings, which it ships for people to choose from."""
    try:
        from cosmic.evolve import Evolve
        from cosmic.sample.initialbinarytable import InitialBinaryTable
    except ImportError as error:
        raise MissingCosmicError(
            f'the track formulae need cosmic-popsynth, which does not import ({error}); pip install "twinlines[tracks]"'
        ) from error
    text = (resources.files("cosmic") / "data" / "cosmic-settings.json").read_text()
    (group,) = (group for group in json.loads(text) if group["category"] == "bse")
    chosen = {
        item["name"]: [option["name"] for option in item["options"] if option.get("default")]
        for item in group["settings"]
    }
    settings = {name: _literal(default[0]) for name, default in chosen.items()}
    return _Cosmic(InitialBinaryTable, Evolve, settings, metadata.version("cosmic-popsynth"))


def _literal(value: Any) -> Any:
    """Turn a default that is written as text into numbers; "2.0/21.0" is the only arithmetic among them."""
    if not isinstance(value, str):
        return value
    return ast.literal_eval(value.replace("2.0/21.0", repr(2.0 / 21.0)))


def main(argv: Sequence[str] | None = None) -> None:
    """Make the packaged table from the command line."""
    parser = argparse.ArgumentParser(description="Compute a track table from the formulae of Hurley et al. (2000).")
    parser.add_argument("out", type=Path, help="file to write (.zarr.zip)")
    options = parser.parse_args(argv)
    try:
        tracks = make(options.out)
    except MissingCosmicError as error:
        sys.exit(str(error))
    mesh = tracks.mesh
    print(f"{options.out}: {mesh.feh.size} compositions x {mesh.mass.size} masses x {tracks.eep.size} EEPs")


if __name__ == "__main__":
    main()
