"""Made-up track files in MIST's layout, importable by anybody's tests.

Every quantity is linear in mass, [Fe/H], [alpha/Fe] and EEP, so that what an interpolation should give is known at any
point: :func:`truth`.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def truth(mass: Array, feh: Array, eep: Array, alpha: Array) -> tuple[Array, Array, Array, Array]:
    """Log age (years), log L, log Teff and current mass (solar units, K) of made-up stars."""
    return (
        9.2 - 0.3 * mass + 0.1 * feh - 0.05 * alpha + eep / 1000.0,
        mass + 0.2 * feh - 0.1 * alpha + eep / 500.0,
        3.6 + 0.1 * mass - 0.05 * feh + 0.02 * alpha - eep / 10000.0,
        mass - 1e-5 * eep,
    )


def track_text(
    mass: float,
    feh: float,
    alpha: float = 0.0,
    n_eeps: int = 605,
    *,
    version: str = "1.2",
    n_columns: int = 7,
    seed: int = 0,
    rotation: float = 0.4,
) -> str:
    """Text of the track file of a made-up star.

    Parameters
    ----------
    mass, feh, alpha
        Initial mass in solar masses, [Fe/H] and [alpha/Fe] in dex.
    n_eeps
        Rows: the EEPs from 1 on.
    version
        MIST's version number, as the first line says it.
    n_columns
        7, or more: MIST has 77. Their order is drawn from ``seed``.
    rotation
        Initial v/v_crit.
    """
    eep = np.arange(1.0, n_eeps + 1.0)
    log_age, log_l, log_teff, star_mass = truth(np.array(mass), np.array(feh), eep, np.array(alpha))
    log_r = 0.5 * log_l - 2.0 * (log_teff - np.log10(5772.0))
    columns = {
        "star_age": 10.0**log_age,
        "star_mass": star_mass,
        "log_L": log_l,
        "log_Teff": log_teff,
        "log_R": log_r,
        "log_g": 4.438 + np.log10(star_mass) - 2.0 * log_r,
        "phase": np.select([eep < 202, eep < 454, eep < 605], [-1.0, 0.0, 2.0], 3.0),
    }
    columns |= {f"surface_{number}": np.full(n_eeps, 0.1 * number) for number in range(n_columns - len(columns))}
    names = np.random.default_rng(seed).permutation(list(columns))
    rule = "# " + 86 * "-"
    lines = [
        f"# MIST version number  = {version}",
        "# MESA revision number =     7503",
        rule,
        "#  Yinit        Zinit   [Fe/H]   [a/Fe]  v/vcrit",
        f"# 0.2703  {0.0142 * 10**feh:.5E}    {feh:5.2f}    {alpha:5.2f}     {rotation:.2f}",
        rule,
        "#     initial_mass   N_pts   N_EEP   N_col   phase        type",
        f"# {mass:.10E}  {n_eeps:6d}       5  {len(names):6d}     YES    low-mass",
        "# EEPs:        1     202     353     454     605",
        rule,
        "#" + "".join(f"{number:32d}" for number in range(1, len(names) + 1))[1:],
        "#" + "".join(f"{name:>32}" for name in names)[1:],
        *("".join(f"{columns[name][row]:32.16E}" for name in names) for row in range(n_eeps)),
    ]
    return "\n".join(lines) + "\n"


def track_name(mass: float, digits: int = 5) -> str:
    """Name of a track file: mass x 100 in five digits (to version 1.2), or x 10,000 in seven (2.5)."""
    return f"{round(mass * 10 ** (digits - 3)):0{digits}d}M.track.eep"


def write_archive(path: Path, members: Mapping[str, str]) -> Path:
    """Write texts by member name as an archive, compressed by the suffix of ``path``, and return ``path``."""
    with tarfile.open(path, "w:xz" if path.suffix in (".txz", ".xz") else "w:gz") as archive:
        for name, text in members.items():
            member, data = tarfile.TarInfo(name), text.encode()
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
