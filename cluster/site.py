"""Reads a profile as it is typed, ``slurm:jobs=4``, or from the one YAML file that describes a site.

Keys are the fields of :mod:`twinlines.cluster.profiles`; ``-`` and ``_`` are the same.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, replace
from functools import partial
from pathlib import Path

import dask
import yaml
from dask.utils import parse_bytes, parse_timedelta

from twinlines.cluster import jobqueue, settings
from twinlines.cluster.errors import ProfileError
from twinlines.cluster.profiles import KINDS, Address, Here, Profile, SchedulerFile
from twinlines.cluster.settings import Reader, Unfit, did_you_mean

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
        raise ProfileError(f"{path}: profile is {name!r}; it is one of {', '.join(KINDS)}{did_you_mean(name, KINDS)}")
    return _build(str(name), options, f"{path}:", path.parent)


def _build(name: str, options: Mapping[str, object], where: str, base: Path) -> Profile:
    kind = KINDS[name]
    written = {key.replace("-", "_"): value for key, value in options.items()}
    readers = settings.readers_of(kind, {**_READERS, "Path": partial(_path, base=base)})
    values = settings.read_table(written, readers, where, ProfileError)
    for item in fields(kind):
        if isinstance(item.default, Path):  # relative to its own place, not to the site's
            values.setdefault(item.name, _path(str(item.default), where, base=Path.cwd()))
    try:
        return kind(**values)
    except ProfileError as error:
        raise ProfileError(f"{where} {error}") from None


def _integer(value: object, _: str) -> int:
    if isinstance(value, int | str) and not isinstance(value, bool):
        with suppress(ValueError):
            return int(value)
    raise Unfit("give a whole number")


def _boolean(value: object, _: str) -> bool:
    words = {"true": True, "yes": True, "false": False, "no": False}
    word = str(value).lower()
    if word not in words:
        raise Unfit("give true or false")
    return words[word]


def _texts(value: object, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise Unfit("give a list")
    return tuple(settings.text(item, where) for item in value)


def _size(value: object, _: str) -> int:
    try:
        return int(parse_bytes(str(value)))
    except ValueError:
        raise Unfit("give a size such as 4GiB") from None


def _duration(value: object, _: str) -> float:
    try:
        return float(parse_timedelta(str(value)))
    except (ValueError, KeyError, TypeError):
        raise Unfit("give a time such as '10 minutes'") from None


def _walltime(value: object, _: str) -> str:
    if not isinstance(value, str):
        # YAML 1.1 reads 4:00:00 as 14400, which SLURM would take for minutes.
        raise Unfit("put the walltime in quotes, as in walltime: '4:00:00'")
    return value


def _path(value: object, where: str, *, base: Path) -> Path:
    return base.absolute() / Path(os.path.expandvars(settings.text(value, where))).expanduser()


def _configuration(value: object, _: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Unfit("give keys of dask's configuration")
    flat = dict(_flatten(value))
    # Their defaults are known once they are imported.
    importlib.import_module("distributed")
    with suppress(ImportError):
        jobqueue.load()
    there = [key for key, _ in _flatten(dask.config.config)]
    for key in flat:
        known = dask.config.get(key, default=MISSING) is not MISSING
        if not known and not key.startswith(_OPEN_SECTIONS):
            raise Unfit(f"dask has no configuration {key!r}{did_you_mean(key, there)}")
    return flat


def _flatten(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


_READERS: Mapping[str, Reader] = {
    "int": _integer,
    "bool": _boolean,
    "str": settings.text,
    "tuple[str, ...]": _texts,
    "Size": _size,
    "Duration": _duration,
    "Walltime": _walltime,
    "Mapping[str, object]": _configuration,
}
"""How a value is read, by the annotation of its field; a path is read with the folder that it is relative to."""
