"""What files a store must have: Zarr reads a file that is gone as missing values, and nobody would know.

Whoever has made a store whole writes down, in its attributes, how many files each variable has, of what size and, where
it is worth the reading, of what content. Opening a store looks at names and sizes, and at the content of each
``zarr.json``, which says how all others are read; a check of everything reads it all. Where a whole store is
checksummed in another way (a release's shards), contents are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zarr

from twinlines.pipeline.storage import atomic

ATTRIBUTE = "inventory"
"""Attribute of a store's group that holds its inventory."""

CHECKSUM = "checksum"
"""Attribute of a store's group that is a hash of all others."""


def _files(folder: str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Files of a variable with their paths in it, in an order of names alone; a folder that is gone has none.

    Zarr's own alone: what NFS (``.nfs0001``), a Mac (``.DS_Store``) or an editor leaves beside them does not count.
    """
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in listed:
        if entry.is_dir(follow_symlinks=True):
            yield from _files(entry.path, f"{prefix}{entry.name}/")
        elif entry.name == "zarr.json" or entry.name.isdecimal() or entry.name == "c":
            yield prefix + entry.name, entry


def _state(folder: Path, contents: bool) -> dict[str, Any]:
    files, size, digest = 0, 0, hashlib.sha256()
    names = hashlib.sha256()
    for name, entry in _files(str(folder)):
        files += 1
        length = entry.stat().st_size
        size += length
        names.update(f"{name} {length}\n".encode())
        if contents:
            with Path(entry.path).open("rb") as file:
                while data := file.read(1 << 20):
                    digest.update(data)
    state: dict[str, Any] = {"files": files, "bytes": size, "names": names.hexdigest()[:32]}
    return {**state, "sha256": digest.hexdigest()} if contents else state


def _described(folder: Path) -> str:
    """Hash of what a variable says of itself; "" if that is gone."""
    try:
        return hashlib.sha256((folder / "zarr.json").read_bytes()).hexdigest()[:32]
    except (FileNotFoundError, NotADirectoryError):
        return ""


def parsed(said: bytes) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Attributes of a store, and its inventory, from the content of its group's ``zarr.json``.

    Both are believed as they stand if the store was sealed by a version that wrote no checksum, or not at all.

    Raises
    ------
    ValueError
        If they are damaged.
    """
    try:
        attrs = dict(json.loads(said)["attributes"])
        promised = attrs.pop(CHECKSUM, None)
        if promised is not None and promised != _hash(attrs):
            raise ValueError("its checksum differs")  # noqa: TRY301 (joins the other kinds of damage)
        return attrs, dict(attrs.pop(ATTRIBUTE, {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its zarr.json is damaged ({error})") from error


def _hash(attrs: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(attrs, sort_keys=True).encode()).hexdigest()[:32]


def seal(path: Path, names: Iterable[str], *, contents: bool = True) -> None:
    """Write down what files the variables of a store have; it is whole now, and must not change any more.

    Parameters
    ----------
    path
        Folder of the store.
    names
        Its variables and coordinates.
    contents
        Whether their contents count, too: all is read once.
    """
    inventory = {
        name: {**_state(path / name, contents), "described": _described(path / name)} for name in sorted(names)
    }
    with atomic.naming(path):
        attrs = zarr.open_group(path, mode="r+", zarr_format=3).attrs
        attrs.update({ATTRIBUTE: inventory})
        written = json.loads((path / "zarr.json").read_bytes())["attributes"]
        attrs.update({CHECKSUM: _hash({name: value for name, value in written.items() if name != CHECKSUM})})


def altered(path: Path, inventory: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which variables say of themselves what was not written, a message for each; their values are not looked at."""
    return [
        f"the zarr.json of {name!r} is damaged (its checksum differs)"
        for name, wanted in inventory.items()
        if "described" in wanted and _described(path / name) not in ("", wanted["described"])
    ]


def problems(path: Path, inventory: Mapping[str, Mapping[str, Any]], *, contents: bool = False) -> list[str]:
    """What is wrong with the files of a store, a message for each variable.

    Parameters
    ----------
    path
        Folder of the store.
    inventory
        What its attribute says.
    contents
        Read all, and compare contents where the inventory has them.
    """
    wrong = altered(path, inventory)
    for name, wanted in inventory.items():
        state = _state(path / name, contents and "sha256" in wanted)
        if state["files"] != wanted["files"]:
            wrong.append(f"{name!r} has {state['files']} of {wanted['files']} files")
        elif state["names"] != wanted["names"]:
            wrong.append(f"{name!r} has {state['bytes']} bytes where {wanted['bytes']} were written, or other files")
        elif state.get("sha256", wanted.get("sha256")) != wanted.get("sha256"):
            wrong.append(f"{name!r} has another content than was written")
    return wrong
