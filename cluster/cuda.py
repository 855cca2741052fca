"""One worker for each GPU of this machine, through dask-cuda. Not tried on a GPU yet."""

from __future__ import annotations

import logging
import os
from types import ModuleType
from typing import Any

from twinlines.cluster.errors import LaunchError
from twinlines.cluster.profiles import GPU_TASKS, Cuda
from twinlines.cluster.security import LOOPBACK


def _package() -> ModuleType:
    try:
        import dask_cuda
        import dask_cuda.utils
    except ImportError as error:
        raise LaunchError(
            f"the profile 'cuda' needs the package dask-cuda and CUDA's bindings: {error}; install them with: "
            "pip install 'twinlines[gpu]'"
        ) from error
    module: ModuleType = dask_cuda
    return module


def _gpus(package: ModuleType) -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip(" ,"):
        raise LaunchError(f"no GPU: CUDA_VISIBLE_DEVICES is {visible!r}; unset it, or use --cluster local")
    try:
        package.utils.get_gpu_count()  # asks the driver, where get_n_gpus may believe the variable
        return int(package.utils.get_n_gpus())
    except Exception as error:  # the driver's own errors have no common name
        raise LaunchError(
            f"no GPU: NVIDIA's driver does not answer ({error}); 'nvidia-smi' should list one. Without a GPU, use "
            "--cluster local"
        ) from error


def options(profile: Cuda) -> dict[str, Any]:
    """Keyword arguments of dask-cuda's LocalCUDACluster."""
    return {
        "n_workers": profile.n_workers,
        "threads_per_worker": GPU_TASKS,
        "memory_limit": profile.memory or "auto",
        # 0: what exceeds device memory is an error, not a silent crawl.
        "device_memory_limit": 0,
        "resources": {"GPU": 1},
        "host": "127.0.0.1",
        "dashboard_address": LOOPBACK,
        "worker_dashboard_address": LOOPBACK,
        "silence_logs": logging.CRITICAL,
    }


def start(profile: Cuda, scratch: str, **guarded: Any) -> Any:
    """Start the workers, guarded by what :func:`twinlines.cluster.security.for_loopback` says.

    Raises
    ------
    LaunchError
        If dask-cuda is missing, or there is no GPU, or there are fewer than asked for.
    """
    package = _package()
    there = _gpus(package)
    if not there:
        raise LaunchError("no GPU: NVIDIA's driver lists none; without a GPU, use --cluster local")
    if profile.n_workers is not None and profile.n_workers > there:
        raise LaunchError(f"cuda: n_workers is {profile.n_workers}, and there are {there} GPUs; ask for fewer")
    return package.LocalCUDACluster(**options(profile), **guarded, local_directory=scratch)
