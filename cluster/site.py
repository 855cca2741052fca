"""Reads a profile as it is typed, ``slurm:jobs=4``, or from the one YAML file that describes a site.

Keys are the fields of :mod:`twinlines.cluster.profiles`; ``-`` and ``_`` are the same. A key that does not exist is an
error with the nearest that does: a misspelt limit must not pass for a default.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import dask
import yaml
from dask.utils import parse_bytes, parse_timedelta

from twinlines.cluster import jobqueue
from twinlines.cluster.errors import ProfileError
from twinlines.cluster.profiles import KINDS, Address, Here, Profile, SchedulerFile

AVAILABLE = ("local", "cuda", "slurm", "ssh", "tcp://HOST:PORT", "tls://HOST:PORT", "SCHEDULER.json", "SITE.yaml")
"""What a user may type for a cluster."""

_OPEN_SECTIONS = ("distributed.nanny.environ.", "distributed.nanny.pre-spawn-environ.")
"""Parts of dask's configuration whose keys are the user's: names of environment variables."""


def parse(text: str, n_workers: int | None = None) -> Profile:
    """Read a profile as it is typed.

    Parameters
    ----------
    text
        A name with or without options (``local:n_workers=2,memory=4GiB``), a scheduler's address, its file (``.json``)
        or a site's (``.yaml``).
    n_workers
        Number of workers, in place of what ``text`` says; for workers on this machine only.

    Raises
    ------
    ProfileError
        If the profile or an option is unknown or malformed; the message says what there is.
    """
    text = text.strip()
    if text.startswith(("tcp://", "tls://")):
        profile: Profile = Address(address=text.rstrip("/"))
    elif text.endswith((".yaml", ".yml")):
        profile = read(Path(text))
    elif text.endswith(".json"):
        profile = SchedulerFile(file=Path(text))
    else:
        name, _, options = text.partition(":")
        if name not in KINDS:
            raise ProfileError(f"no cluster profile is called {text!r}; available are: {', '.join(AVAILABLE)}")
        pairs = (option.partition("=") for option in options.split(",") if option)
        profile = _build(name, {key.strip(): value for key, _, value in pairs}, f"{name}:", Path.cwd())
    if n_workers is None:
        return profile
    if not isinstance(profile, Here):
        own = {"slurm": "; its size is jobs times cores, or gpus", "ssh": "; its size is hosts times workers_per_host"}
        raise ProfileError(
            f"{text} has the workers it has; n_workers={n_workers} is for the profiles 'local' and 'cuda'"
            + own.get(profile.name, "")
        )
    return replace(profile, n_workers=n_workers)


def read(path: Path) -> Profile:
    """Read a site's YAML file.

    Paths in it are relative to its folder; ``~`` and variables in them are expanded.

    Raises
    ------
    ProfileError
        If it cannot be read, or a key or a value in it is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProfileError(f"{path}: the site cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ProfileError(f"{path}: a site is a mapping, with 'profile: NAME' and that profile's keys")
    options = {str(key): value for key, value in content.items()}
    name = options.pop("profile", None)
    if name not in KINDS:
        raise ProfileError(f"{path}: profile is {name!r}; it is one of {', '.join(KINDS)}{_guess(str(name), KINDS)}")
    return _build(str(name), options, f"{path}:", path.parent)


def _build(name: str, options: Mapping[str, object], where: str, base: Path) -> Profile:
    kind = KINDS[name]
    known = {one.name: one for one in fields(kind)}
    # A path that nobody gave is relative to its own place, "~" included.
    values: dict[str, Any] = {
        one.name: _path(str(one.default), Path.cwd()) for one in known.values() if isinstance(one.default, Path)
    }
    for key, value in options.items():
        field = key.replace("-", "_")
        if field not in known:
            there = sorted(known)
            raise ProfileError(
                f"{where} no option is called {key!r}{_guess(field, there)}; the options are {', '.join(there)}"
            )
        if value is None:  # a YAML key without a value
            continue
        kinds = str(known[field].type).removesuffix(" | None")
        try:
            values[field] = _READERS[kinds](value, base)
        except (ValueError, TypeError, KeyError) as error:
            raise ProfileError(f"{where} {field} is {value!r}; {error.args[0]}") from None
    try:
        return kind(**values)
    except ProfileError as error:
        raise ProfileError(f"{where} {error}") from None


def _guess(word: str, known: Mapping[str, object] | list[str]) -> str:
    near = get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _integer(value: object, _: Path) -> int:
    if isinstance(value, int | str) and not isinstance(value, bool):
        with suppress(ValueError):
            return int(value)
    raise ValueError("give a whole number")


def _boolean(value: object, _: Path) -> bool:
    words = {"true": True, "yes": True, "false": False, "no": False}
    word = str(value).lower()
    if word not in words:
        raise ValueError("give true or false")
    return words[word]


def _text(value: object, _: Path) -> str:
    if not isinstance(value, str):
        raise ValueError("give text; put it in quotes")  # noqa: TRY004 (an error of the file, not of the code)
    return value


def _texts(value: object, base: Path) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise ValueError("give a list")  # noqa: TRY004
    return tuple(_text(one, base) for one in value)


def _size(value: object, _: Path) -> int:
    try:
        return int(parse_bytes(str(value)))
    except ValueError:
        raise ValueError("give a size such as 4GiB") from None


def _duration(value: object, _: Path) -> float:
    try:
        return float(parse_timedelta(str(value)))
    except (ValueError, KeyError, TypeError):
        raise ValueError("give a time such as '10 minutes'") from None


def _walltime(value: object, _: Path) -> str:
    if not isinstance(value, str):
        # YAML 1.1 reads 4:00:00 as 14400, which SLURM would take for minutes.
        raise ValueError("put the walltime in quotes, as in walltime: '4:00:00'")  # noqa: TRY004
    return value


def _path(value: object, base: Path) -> Path:
    return base.absolute() / Path(os.path.expandvars(_text(value, base))).expanduser()


def _configuration(value: object, _: Path) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError("give keys of dask's configuration")  # noqa: TRY004
    flat = dict(_flatten(value))
    # Their defaults are known once they are imported.
    importlib.import_module("distributed")
    with suppress(ImportError):
        jobqueue.load()
    there = [key for key, _ in _flatten(dask.config.config)]
    for key in flat:
        known = dask.config.get(key, default=MISSING) is not MISSING
        if not known and not key.startswith(_OPEN_SECTIONS):
            raise ValueError(f"dask has no configuration {key!r}{_guess(key, there)}")
    return flat


def _flatten(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


_READERS: Mapping[str, Callable[[object, Path], object]] = {
    "int": _integer,
    "bool": _boolean,
    "str": _text,
    "tuple[str, ...]": _texts,
    "Size": _size,
    "Duration": _duration,
    "Walltime": _walltime,
    "Path": _path,
    "Mapping[str, object]": _configuration,
}
"""How a value is read, by the annotation of its field."""
