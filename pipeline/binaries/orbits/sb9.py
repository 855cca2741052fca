"""Orbits in the layout of SB9, the ninth catalogue of spectroscopic binary orbits (Pourbaix et al. 2004, A&A 424, 727).

A folder of text, fields divided by bars, as SB9 is given out: ``Main.dta`` has the systems, ``Orbits.dta`` the orbits,
``Alias.dta`` the identifiers. Systems are numbered from 1; what is not known is empty.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TextIO

from astropy import units as u
from astropy.coordinates import FK4, FK5, SkyCoord

from twinlines.pipeline.catalog.tables import whole
from twinlines.pipeline.catalog.tables.table import Block, Table

MAIN, ORBITS, ALIAS = "Main.dta", "Orbits.dta", "Alias.dta"
"""Files of the folder."""

_JD = 2_400_000.0  # subtracted from times


def write(table: Table, path: Path, *, overwrite: bool) -> None:
    """Write orbits, columns of :data:`twinlines.pipeline.binaries.schema.GAIA_ORBITS`, as SB9 has them.

    Raises
    ------
    ExportError
        If they cannot be written wholly.
    """
    contributor = str(table.provenance.get("written_by"))
    with (
        whole.folder(path, overwrite=overwrite, mark=ORBITS) as aside,
        (aside / MAIN).open("w") as main,
        (aside / ORBITS).open("w") as orbits,
        (aside / ALIAS).open("w") as alias,
    ):
        number = 1
        for block in table.blocks():
            _write_systems(main, alias, block, number)
            number = _write_orbits(orbits, block, number, contributor)


def _write_systems(main: TextIO, alias: TextIO, block: Block, number: int) -> None:
    places = SkyCoord(block["ra"], block["dec"], unit="deg", frame=FK5(equinox="J2000"))
    old = places.transform_to(FK4(equinox="B1900"))
    for row, obsid in enumerate(block["obsid"].tolist()):
        main.write(f"{number + row}|{coarse(old[row])}|{fine(places[row])}|||||||\n")
        alias.write(f"{number + row}|LAMOST|{obsid}\n")


def coarse(place: SkyCoord) -> str:
    """A position as hhmm.m and ddmm, without points."""
    tenths = round(place.spherical.lon.to_value(u.hourangle) * 600.0) % 14_400
    degrees = place.spherical.lat.to_value(u.deg)
    minutes = int(abs(degrees) * 60.0 + 0.5)
    return f"{tenths // 600:02d}{tenths % 600:03d}{_sign(degrees)}{minutes // 60:02d}{minutes % 60:02d}"


def fine(place: SkyCoord) -> str:
    """A position as hhmmss.sss and ddmmss.ss, without points."""
    thousandths = round(place.spherical.lon.to_value(u.hourangle) * 3_600_000.0) % 86_400_000
    seconds, thousandth = divmod(thousandths, 1000)
    degrees = place.spherical.lat.to_value(u.deg)
    arcseconds, hundredth = divmod(round(abs(degrees) * 360_000.0), 100)
    ra = f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}{thousandth:03d}"
    dec = f"{arcseconds // 3600:02d}{arcseconds // 60 % 60:02d}{arcseconds % 60:02d}{hundredth:02d}"
    return f"{ra}{_sign(degrees)}{dec}"


def _sign(degrees: float) -> str:
    return "-" if degrees < 0.0 else "+"


def _write_orbits(file: TextIO, block: Block, number: int, contributor: str) -> int:
    """Write the orbits of some systems, of which the first has a number; returns the next one's."""

    def both(name: str, row: int) -> list[str]:
        return [_number(block[name][row]), _number(block[f"{name}_error"][row])]

    rows = len(block["obsid"])
    for row in range(rows):
        fields = [
            *(str(number + row), "1"),
            *both("period", row),
            *(_number(block["t_periastron"][row] - _JD), _number(block["t_periastron_error"][row]), ""),
            *both("eccentricity", row),
            *both("arg_periastron", row),
            *both("semi_amplitude_primary", row),
            *both("semi_amplitude_secondary", row),
            *both("center_of_mass_velocity", row),
            *("", ""),  # scatter about the orbit
            *(str(int(block[f"rv_n_obs_{star}"][row])) for star in ("primary", "secondary")),
            *("", "", contributor, "", "JD"),  # grade, reference, who, where from, what times are
        ]
        file.write("|".join(fields) + "\n")
    return number + rows


def _number(value: float) -> str:
    """A number with as many digits as tell it; nothing for none."""
    return repr(round(float(value), 10)) if math.isfinite(value) else ""
