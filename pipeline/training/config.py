"""Reads the recipe of a training set from a TOML file.

    condition = ["feh", "alpha"]

    [priors]
    vsini1 = "survey_vsini"                                     # a named prior
    mass_ratio = { kind = "uniform", low = 0.5, high = 1.0 }    # or a distribution
    alpha = 0.0                                                 # or a number

    [extras.cool_giants]
    fraction = 0.1

What is not given is as in Table 1 of Zhang et al. (2022). ``docs/training-set.md`` lists everything.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from twinlines.models.network import PRESETS, NetworkConfig
from twinlines.pipeline.synthesis import priors
from twinlines.pipeline.synthesis.beyond_table1 import Extras
from twinlines.pipeline.synthesis.population import PARAMETERS, TABLE1, Priors

_SECTIONS = ("condition", "priors", "extras")

Settings = TypeVar("Settings")


class ConfigError(ValueError):
    """A configuration file cannot be read, or says something that has no meaning."""


def read(path: str | Path) -> dict[str, Any]:
    """Read a file: what it says of the fields ``priors``, ``condition`` and ``extras`` of a ``TrainingSet``.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a name or a type in it is wrong; names the file and the key.
    PriorError, ExtrasError
        If a prior or a fraction is impossible.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    _only(f"{path}", content, _SECTIONS)
    return {
        "condition": _names(f"{path}: condition", content.get("condition", [])),
        "priors": _priors(f"{path}: priors", content.get("priors", {})),
        "extras": _extras(f"{path}: extras", content.get("extras", {})),
    }


def _only(where: str, found: object, known: Collection[str]) -> Mapping[str, Any]:
    """``found``, if it is a table with no other keys than ``known``."""
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where} is {found!r}; write it as a table")
    for name in found:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(f"{where}: there is no {name!r}{guess}; there are {', '.join(known)}")
    return found


def _names(where: str, found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ConfigError(f"{where} is {found!r}; write it as a list of parameters, such as ['feh']")
    return tuple(found)


def _priors(where: str, found: object) -> Priors:
    table = _only(where, found, PARAMETERS)
    return replace(TABLE1, **{name: priors.parse(value, f"{where}.{name}") for name, value in table.items()})


def _extras(where: str, found: object) -> Extras:
    standard = Extras()
    table = _only(where, found, [item.name for item in fields(Extras)])
    return replace(
        standard, **{name: _extra(f"{where}.{name}", getattr(standard, name), value) for name, value in table.items()}
    )


def _extra(where: str, standard: Settings, found: object) -> Settings:
    """``standard`` with the fields that ``found`` sets."""
    names = [item.name for item in fields(standard)]  # type: ignore[arg-type]
    changes = {
        name: _value(f"{where}.{name}", getattr(standard, name), value)
        for name, value in _only(where, found, names).items()
    }
    return replace(standard, **changes)  # type: ignore[type-var]


def _value(where: str, standard: object, found: object) -> object:
    """``found`` as what ``standard`` is: a switch, a number or a prior."""
    match standard:
        case bool():
            if not isinstance(found, bool):
                raise ConfigError(f"{where} is {found!r}; write true or false")
            return found
        case float():
            if isinstance(found, bool) or not isinstance(found, int | float):
                raise ConfigError(f"{where} is {found!r}; write a number")
            return float(found)
        case _:
            return priors.parse(found, where)


def read_sizes(name: str) -> dict[str, Any]:
    """Sizes of a network: one of :data:`twinlines.models.network.PRESETS`, or what a TOML file says of them.

    Raises
    ------
    ConfigError
        If there is neither; or if the file cannot be read, or a name or a type in it is wrong.
    """
    if name in PRESETS:
        return dict(PRESETS[name])
    path = Path(name)
    if not path.suffix:
        raise ConfigError(f"no network is called {name!r}; there are {', '.join(PRESETS)}, or name a TOML file")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    standard = {item.name: item.default for item in fields(NetworkConfig) if item.name not in _GIVEN}
    return {
        key: _size(f"{path}: {key}", standard[key], value) for key, value in _only(f"{path}", content, standard).items()
    }


_GIVEN = ("n_pixels", "architecture")


def _size(where: str, standard: object, found: object) -> Any:
    if not isinstance(standard, tuple):
        return _value(where, standard, found)
    if not isinstance(found, list) or not all(type(one) is int and one > 0 for one in found):
        raise ConfigError(f"{where} is {found!r}; write it as a list of numbers above 0, such as {list(standard)}")
    return tuple(found)
