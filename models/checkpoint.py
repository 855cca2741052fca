"""Weights on disk: one safetensors file a member, with a JSON header that says what it is and where it comes from.

Nothing here is a pickle: reading a file of unknown origin runs no code. An ensemble is a folder of such files, named
``member_<number>.safetensors``; its digest is a hash of their content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor

from twinlines.models import atomic
from twinlines.models.network import ARCHITECTURE, Network, NetworkConfig

SCHEMA_VERSION = 2
"""Version of the header; raised with every change that an older reader would misread."""

SUFFIX = ".safetensors"
_KEY = "twinlines"
_CHECKSUM = "checksum"  # entry of the header; files of before have none, and are read as they are


class CheckpointError(RuntimeError):
    """A file of weights is missing, damaged, or not for this code."""


def code_version() -> str:
    """Version of the installed distribution."""
    return metadata.version("twinlines")


@dataclass(frozen=True)
class Header:
    """What a file of weights says about itself."""

    member: int
    """Serial number of the member in its ensemble, from 1."""
    seed: int
    """Seed of the training run."""
    pairs: str
    """Digest of the pairs that it was trained on; of several sets, all of them with + between."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Losses, rates and epochs, by name; see :mod:`twinlines.models.training`."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the training run, by name."""
    parent: str | None = None
    """Digest of the weights at which training started; None: at random ones."""
    torch: str | None = None
    """Version of torch that trained it."""
    code: str = field(default_factory=code_version)
    """Version of the code that wrote the file."""
    schema_version: int = SCHEMA_VERSION
    """Version of this header."""

    @property
    def stem(self) -> str:
        """File name without its suffix."""
        return stem(self.member)


def stem(member: int) -> str:
    """File name, without suffix, of a member."""
    return f"member_{member}"


def pack(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Tensors and a JSON header as the content of a safetensors file; equal input gives equal bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = json.loads(json.dumps(header))  # as it will be read: keys are text
    sealed = {**header, _CHECKSUM: _checksum(plain, header)}
    # One metadata entry only: safetensors writes several in no fixed order, and digests would differ.
    return safetensors_torch.save(plain, {_KEY: json.dumps(sealed, sort_keys=True)})


def _checksum(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Hash of all that a file says, which a flipped bit changes."""
    total = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:32]


def unpack(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON header of a file that :func:`pack` made.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or somebody else's.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; name a file of weights")
    try:
        with safe_open(path, framework="pt") as file:
            entries = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); fetch or train it again") from error
    if _KEY not in entries:
        raise CheckpointError(
            f"{path} has no {_KEY!r} entry in its metadata (it has {sorted(entries)}); it was not written by this code"
        )
    try:
        header = json.loads(entries[_KEY])
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: its header is no JSON ({error}); fetch or train it again") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its header is {type(header).__name__}, not an object")
    promised = header.pop(_CHECKSUM, None)
    if promised is not None and promised != _checksum(tensors, header):
        raise CheckpointError(f"{path} is damaged (its checksum differs); fetch or train it again")
    return tensors, header


def save(path: Path, network: Network, header: Header) -> None:
    """Write a member's weights, atomically.

    Matrices and kernels are rounded to float16, which halves the file; what normalises (vectors) stays float32.
    """
    content = {**asdict(header), "network": asdict(network.config)}
    rounded = {
        name: tensor.half() if tensor.ndim > 1 and tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    atomic.write_bytes(Path(path), pack(rounded, content))


def load(path: Path) -> tuple[Network, Header]:
    """Read a member's weights, in evaluation mode on the CPU.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, or its version, architecture or shapes are not this code's; the message
        names both sides.
    """
    path = Path(path)
    tensors, content = unpack(path)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        old = " (a network for one arm and one penalty)" if version == 1 else ""
        raise CheckpointError(
            f"{path} has header version {version}{old}; this code reads version {SCHEMA_VERSION}: use the version of "
            "the code that wrote it, or train anew"
        )
    sizes = dict(content.pop("network", {}))
    if sizes.get("architecture") != ARCHITECTURE:
        raise CheckpointError(
            f"{path} holds weights of architecture {sizes.get('architecture')!r}; this code has {ARCHITECTURE!r}: "
            "use the version of the code that wrote them, or train anew"
        )
    try:
        network = Network(_config(sizes))
        header = Header(**content)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header does not describe a network ({error})") from error
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | stored.keys()):
        if expected.get(name) != stored.get(name):
            raise CheckpointError(
                f"{path}: tensor {name} has shape {stored.get(name, 'missing')}; its header asks for "
                f"{expected.get(name, 'no such tensor')}"
            )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise CheckpointError(f"{path} holds weights that are not finite; train it again")
    network.load_state_dict(tensors)
    network.eval()
    return network, header


def _config(sizes: Mapping[str, Any]) -> NetworkConfig:
    # JSON knows no tuples.
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
    return NetworkConfig(**fields)


def members(folder: Path) -> list[Path]:
    """Files of the members in a folder, by name.

    Raises
    ------
    CheckpointError
        If there is no such folder, or no member in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; name the folder of an ensemble")
    paths = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    if not paths:
        raise CheckpointError(f"{folder} has no weights (*{SUFFIX}); train an ensemble into it")
    return paths


def file_digest(path: Path) -> str:
    """Hash (sha256, hexadecimal) of one file.

    Raises
    ------
    CheckpointError
        If there is no such file.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); name a file of weights") from error


def digest(folder: Path) -> str:
    """Hash of an ensemble: sha256 over the names of its files and their own sha256, sorted by name; hexadecimal."""
    total = hashlib.sha256()
    for path in members(folder):
        total.update(f"{path.name}\0{file_digest(path)}\n".encode())
    return total.hexdigest()
