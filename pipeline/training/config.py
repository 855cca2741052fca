"""Reads the recipe of a training set from a TOML file.

    condition = ["feh", "alpha"]
    frame = "drawn"

    [priors]
    vsini1 = "survey_vsini"                                     # a named prior
    mass_ratio = { kind = "uniform", low = 0.5, high = 1.0 }    # or a distribution
    alpha = 0.0                                                 # or a number

    [extras.cool_giants]
    fraction = 0.1

What is not given is as in Table 1 of Zhang et al. (2022). ``docs/training-set.md`` lists everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from twinlines.cluster import settings
from twinlines.cluster.settings import Reader, Unfit
from twinlines.models.augmentation import Augmentation
from twinlines.models.network import PRESETS, NetworkConfig
from twinlines.pipeline.synthesis import priors
from twinlines.pipeline.synthesis.beyond_table1 import Extras
from twinlines.pipeline.synthesis.population import PARAMETERS, TABLE1, Priors
from twinlines.pipeline.synthesis.spectra import FRAMES

Settings = TypeVar("Settings")


class ConfigError(ValueError):
    """A configuration file cannot be read, or says something that has no meaning."""


def read(path: str | Path) -> dict[str, Any]:
    """Read a file: what it says of the fields ``priors``, ``condition``, ``frame`` and ``extras`` of a ``TrainingSet``.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a name or a type in it is wrong; names the file and the key.
    PriorError, ExtrasError
        If a prior or a fraction is impossible.
    """
    path = Path(path)
    frame = settings.one_of(FRAMES)
    sections: dict[str, Reader] = {"condition": _names, "frame": frame, "priors": _priors, "extras": _extras}
    standard: dict[str, Any] = {"condition": (), "frame": FRAMES[0], "priors": TABLE1, "extras": Extras()}
    made: dict[str, Any] = standard | settings.read_table(
        settings.read_toml(path, ConfigError), sections, f"{path}:", ConfigError
    )
    return made | {"extras": _beside(path, made["extras"])}


def _beside(path: Path, extras: Extras) -> Extras:
    """The extras with absolute paths: those in a file are relative to it, and workers have other current folders."""

    def absolute(place: Path | None) -> Path | None:
        return place and (path.parent / place).resolve()

    observed = extras.observed
    there = replace(observed, folder=absolute(observed.folder), stars=absolute(observed.stars))
    return replace(extras, observed=there)


def _names(written: Any, _: str) -> tuple[str, ...]:
    if not isinstance(written, list) or not all(isinstance(name, str) for name in written):
        raise Unfit("give a list of parameters, such as ['feh']")
    return tuple(written)


def _priors(written: Any, where: str) -> Priors:
    return _changed(TABLE1, dict.fromkeys(PARAMETERS, priors.parse), written, where)


def _extras(written: Any, where: str) -> Extras:
    standard = Extras()
    readers = {item.name: _extra(getattr(standard, item.name)) for item in fields(standard)}
    return _changed(standard, readers, written, where)


def _path(written: Any, where: str) -> Path:
    return Path(settings.text(written, where))


def _words(written: Any, _: str) -> tuple[str, ...]:
    if not isinstance(written, list) or not all(isinstance(word, str) for word in written):
        raise Unfit("give a list of classes or names, such as ['M dwarf']")
    return tuple(written)


_OF_AN_EXTRA: Mapping[str, Reader] = {
    "bool": settings.switch,
    "float": settings.number,
    "Prior": priors.parse,
    "Path": _path,
    "tuple[str, ...]": _words,
}


def _extra(standard: Any) -> Reader:
    readers = settings.readers_of(type(standard), _OF_AN_EXTRA)
    return lambda written, where: _changed(standard, readers, written, where)


def _changed(standard: Settings, readers: Mapping[str, Reader], written: Any, where: str) -> Settings:
    """``standard`` with the fields that a table sets."""
    return replace(standard, **settings.read_table(written, readers, where, ConfigError))  # type: ignore[type-var]


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
    readers = settings.readers_of(NetworkConfig, {"tuple[int, ...]": _sizes, "int": _size, "float": settings.number})
    readers = {name: reader for name, reader in readers.items() if name != "penalties"}  # --penalty says those
    return settings.read_table(settings.read_toml(path, ConfigError), readers, f"{path}:", ConfigError)


def read_augmentation(path: str | Path) -> Augmentation:
    """How spectra are varied while training, by a TOML file of the fields of :class:`Augmentation`.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a name or a type in it is wrong.
    """
    readers = settings.readers_of(Augmentation, {"int": _size, "float": settings.number})
    written = settings.read_toml(Path(path), ConfigError)
    return Augmentation(**settings.read_table(written, readers, f"{path}:", ConfigError))


def _size(written: Any, _: str) -> int:
    if type(written) is not int or written < 1:
        raise Unfit("give a whole number above 0")
    return written


def _sizes(written: Any, _: str) -> tuple[int, ...]:
    if not isinstance(written, list) or not all(type(size) is int and size > 0 for size in written):
        raise Unfit("give a list of numbers above 0, such as [16, 32]")
    return tuple(written)
