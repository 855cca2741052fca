"""GPUs without a GPU: what is asked of dask-cuda, and what is said where it, or a GPU, is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from twinlines.cluster import cuda
from twinlines.cluster.errors import LaunchError
from twinlines.cluster.inventory import check_devices, describe
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Cuda


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | Exception], list[dict[str, Any]]]:
    """Put a dask-cuda in place that sees so many GPUs, or whose driver fails; returns what it was asked to launch."""

    def install(gpus: int | Exception) -> list[dict[str, Any]]:
        launched: list[dict[str, Any]] = []

        def count() -> int:
            if isinstance(gpus, Exception):
                raise gpus
            return gpus

        @contextmanager
        def cluster(**options: Any) -> Iterator[None]:
            launched.append(options)
            raise KeyboardInterrupt  # far enough
            yield

        package, utils = ModuleType("dask_cuda"), ModuleType("dask_cuda.utils")
        vars(package).update(LocalCUDACluster=cluster, utils=utils)
        vars(utils).update(get_gpu_count=count, get_n_gpus=count)
        monkeypatch.setitem(sys.modules, "dask_cuda", package)
        monkeypatch.setitem(sys.modules, "dask_cuda.utils", utils)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return launched

    return install


def test_one_worker_for_each_gpu_on_this_machine_only(stub: Callable[[int], list[dict[str, Any]]]) -> None:
    launched = stub(2)
    with pytest.raises(KeyboardInterrupt), launch(Cuda(memory=2**34)):
        pass
    (options,) = launched
    assert options.pop("local_directory")
    assert options == cuda.options(Cuda(memory=2**34))
    assert (options["n_workers"], options["threads_per_worker"], options["memory_limit"]) == (None, 3, 2**34)
    assert options["resources"] == {"GPU": 1}
    assert options["device_memory_limit"] == 0  # dask-cuda's word for: no spilling from the device
    assert {options["host"], options["dashboard_address"], options["worker_dashboard_address"]} == {
        "127.0.0.1",
        "127.0.0.1:0",
    }


@pytest.mark.parametrize(
    ("gpus", "profile", "message"),
    [
        (0, Cuda(), "no GPU: NVIDIA's driver lists none; without a GPU, use --cluster local"),
        (RuntimeError("NVML Shared Library Not Found"), Cuda(), r"no GPU: NVIDIA's driver does not answer \(NVML"),
        (1, Cuda(n_workers=2), "n_workers is 2, and there are 1 GPUs"),
    ],
)
def test_without_a_gpu_it_says_so(
    stub: Callable[[int | Exception], list[dict[str, Any]]], gpus: int | Exception, profile: Cuda, message: str
) -> None:
    stub(gpus)
    with pytest.raises(LaunchError, match=message), launch(profile):
        pass


def test_gpus_that_are_hidden_are_not_there(stub: Callable[[int], object], monkeypatch: pytest.MonkeyPatch) -> None:
    stub(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(LaunchError, match="no GPU: CUDA_VISIBLE_DEVICES is ''"), launch(Cuda()):
        pass


def test_without_dask_cuda_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with pytest.raises(LaunchError, match=r"pip install 'twinlines\[gpu\]'"), launch(Cuda()):
        pass


def test_a_worker_that_would_compute_on_the_cpu_is_refused() -> None:
    here = describe()
    check_devices({"tls://a:1": replace(here, device="cuda"), "tls://b:1": here})
    with pytest.raises(LaunchError, match=r"the worker tls://b:1 on .* has no GPU that torch .* can use"):
        check_devices({"tls://a:1": replace(here, device="cuda"), "tls://b:1": replace(here, device="cpu")})
