"""Compiles kernels when they are first called, and keeps what it compiled where only this code on this CPU finds it.

A kernel's machine code is kept in ``$NUMBA_CACHE_DIR``, ``$XDG_CACHE_HOME`` or ``~/.cache``, under ``twinlines``, in a
folder whose name hashes the sources of all kernels, the versions of Python and Numba, and the CPU with its features.
Numba alone would look at one function's file, and run old code after a change in what that function calls; and machines
of several kinds with one home would write over each other's. So, whoever writes there writes the same, by a rename.

Where there is no such folder, or it is another user's (what is kept is executed), or it is read-only or full, each
process compiles for itself; what is damaged is thrown away. Nobody else's settings of Numba are changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from threading import Lock
from typing import Any, ParamSpec, TypeVar, cast

import numba
from llvmlite import binding

P = ParamSpec("P")
R = TypeVar("R")

# A division by zero gives an infinity, as elsewhere; others may run while a kernel does.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_settings = Lock()
_config: Any = numba.config


def routine(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that kernels call; it becomes part of each."""
    return cast("Callable[P, R]", numba.njit(**_OPTIONS)(function))


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that is called from outside, when it is first called, and keep it on disk if possible."""
    dispatcher: Any = None

    def attempt(how: Callable[[], Any], *args: Any) -> tuple[bool, Any]:
        nonlocal dispatcher
        try:
            dispatcher = how() if dispatcher is None else dispatcher
            return True, dispatcher(*args)
        except OSError:  # it cannot be kept: compiled it is, all the same
            return False, None
        except Exception:  # damaged: nobody knows what unpickling it raises
            dispatcher = None
            forget()
            return False, None

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal dispatcher
        if dispatcher is None:
            # What fails does so before the kernel runs, which itself raises nothing.
            for _ in range(2):
                done, result = attempt(lambda: _kept(function), *args)
                if done:
                    return cast("R", result)
            dispatcher = numba.njit(**_OPTIONS)(function)
        return cast("R", dispatcher(*args))

    return call


def _kept(function: Callable[..., Any]) -> Any:
    folder = cache_folder()
    if folder is None:
        return numba.njit(**_OPTIONS)(function)
    with _settings:  # where Numba keeps a function is decided when it is decorated
        usual = _config.CACHE_DIR
        _config.CACHE_DIR = str(folder)
        try:
            return numba.njit(cache=True, **_OPTIONS)(function)
        finally:
            _config.CACHE_DIR = usual


def forget() -> None:
    """Throw away what is kept."""
    folder = cache_folder()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def cache_folder() -> Path | None:
    """Where kernels are kept, made if it is not there; None if there is no folder that is ours to write to."""
    try:
        base = _config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "twinlines" / f"kernels-{_digest()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours = folder.stat().st_uid == os.getuid()
    except (OSError, RuntimeError):  # no room, no permission, no home
        return None
    return folder if ours and os.access(folder, os.W_OK | os.X_OK) else None


@cache
def _digest() -> str:
    """Hash of all that decides the machine code."""
    features = sorted(name for name, there in binding.get_host_cpu_features().items() if there)
    parts = [sys.version, numba.__version__, binding.get_host_cpu_name(), *features]
    digest = hashlib.sha256("\n".join(parts).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
