"""Which arithmetic a device does quickly: float32 everywhere, bfloat16 where the hardware has it."""

from __future__ import annotations

from typing import Literal

import torch

PrecisionName = Literal["float32", "mixed"]
PRECISIONS: tuple[PrecisionName, ...] = ("float32", "mixed")


def has_bfloat16(device: str | torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; elsewhere emulation is slower than float32."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # These probes are private in the tested range of torch, and nothing public tells; absent, bfloat16 is not used.
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def missing(device: str | torch.device) -> str | None:
    """Say what is wrong with a device that is not there; None if it is."""
    if torch.device(device).type != "cuda" or torch.cuda.is_available():
        return None
    return (
        f"torch {torch.__version__} finds no GPU; look at 'nvidia-smi', install a CUDA build of torch, or use the CPU"
    )


def quickest(device: str | torch.device) -> PrecisionName:
    """The precision in which the device is quickest: mixed where it multiplies bfloat16 in hardware, else float32."""
    return resolve("mixed", device)


def resolve(asked: str, device: str | torch.device, *, emulate: bool = False) -> PrecisionName:
    """Precision that will be used where ``asked`` is asked for on ``device``; ``emulate``: hardware or not.

    Raises
    ------
    ValueError
        If there is no such precision.
    """
    if asked not in PRECISIONS:
        raise ValueError(f"no precision is called {asked!r}; choose one of {PRECISIONS}")
    return "mixed" if asked == "mixed" and (emulate or has_bfloat16(device)) else "float32"
