"""How the forward of a training step is carried out: number format, and compiled or not.

Weights, gradients, the optimizer and every score stay float32.  It does not depend on data, losses and schedules.
"""

from __future__ import annotations

import contextlib
from typing import Literal

import torch
from torch import nn

from semalign.errors import ConfigError

__all__ = [
    "AGREED",
    "Precision",
    "autocast",
    "choose_precision",
    "compiled",
    "has_fp16",
    "has_native_bf16",
    "make_scaler",
]

Precision = Literal["float32", "bf16", "fp16"]

AGREED: frozenset[str] = frozenset()
"""Kinds of device on which scores after bf16 training have been found equivalent to those after float32, by the study
of docs/performance.md: what "auto" takes bf16 on.  None yet."""


def has_native_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 in hardware; elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def has_fp16(device: torch.device) -> bool:
    """Return whether fp16 is worth while on the device: on CUDA; a CPU computes it slowly or not at all."""
    return device.type == "cuda"


def choose_precision(wanted: Precision | Literal["auto"], device: torch.device) -> Precision:
    """Return what ``wanted`` ("auto", "float32", "bf16" or "fp16") is on this device.

    "auto" is bf16 where the hardware has it and scores have been found to agree (`AGREED`), else float32.

    Raises:
        ConfigError: bf16 or fp16 is asked for and the device does not compute it.
    """
    if wanted == "auto":
        return "bf16" if device.type in AGREED and has_native_bf16(device) else "float32"
    if wanted == "bf16" and not has_native_bf16(device):
        raise ConfigError(
            f"train.precision=bf16, but this machine's {device.type} has no bf16 in hardware, where it would be "
            "slower than float32: set train.precision=float32"
        )
    if wanted == "fp16" and not has_fp16(device):
        raise ConfigError(
            f"train.precision=fp16 on {device.type}, expected a CUDA device: set train.precision=float32 (or bf16)"
        )
    return wanted


def make_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Return what keeps fp16's small gradients from vanishing; for other formats it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return the context of a forward in ``precision``; for float32 it does nothing."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def compiled(model: nn.Module, device: torch.device) -> nn.Module:
    """Return ``model`` behind torch.compile, sharing its parameters; the first call compiles.

    Raises:
        ConfigError: there is no compiler that works here.
    """

    def probe(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    try:
        torch.compile(probe)(torch.ones(2, device=device))
    except Exception as error:
        # A missing compiler, a broken one and an unknown platform each raise their own.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"train.compile=true, but torch.compile does not work here ({reason[:160]}), expected a C++ compiler (on a "
            "GPU: Triton): install one or set train.compile=false"
        ) from error
    return torch.compile(model)  # type: ignore[return-value]
