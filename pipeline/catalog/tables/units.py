"""Units in the spellings of the formats: the schema has them as FITS does, VOTable wants VOUnit, catalogs CDS's own."""

from __future__ import annotations

from functools import cache

from astropy import units as u


@cache
def vounit(units: str) -> str:
    """A unit of the schema as VOUnit spells it, such as "km.s**-1"; empty for a pure number."""
    return str(_unit(units).to_string("vounit")) if units else ""


@cache
def cds(units: str) -> str:
    """A unit of the schema as the CDS spells it, such as "km/s"; "---" for a pure number."""
    if not units:
        return "---"
    unit = _unit(units)
    powers = [(base.to_string("cds"), int(power)) for base, power in zip(unit.bases, unit.powers, strict=True)]
    product = ".".join(_power(base, power) for base, power in powers if power > 0) or "1"
    return "/".join([product, *(_power(base, -power) for base, power in powers if power < 0)])


def _power(base: str, power: int) -> str:
    return base if power == 1 else f"{base}{power}"


def _unit(units: str) -> u.UnitBase:
    return u.Unit(units, format="fits")
