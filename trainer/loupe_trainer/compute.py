"""Where and in which precision networks are trained."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Literal, TypeVar

import torch
from torch import nn

from loupe_trainer.errors import RecipeError

DeviceName = Literal["cpu", "cuda"]
Module = TypeVar("Module", bound=nn.Module)


def open_device(name: DeviceName) -> torch.device:
    """Find the device a recipe asks for.

    Raises:
        RecipeError: No CUDA device here.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError(
            'device = "cuda", but PyTorch sees no CUDA device here; set device = "cpu", or '
            "install a CUDA build of PyTorch and check `nvidia-smi`"
        )
    return torch.device(name)


def require_devices(settings: Mapping[str, object]) -> None:
    """Make sure, before the work, that every device that is asked for is here.

    Args:
        settings: A recipe's `[fit]`, checked; those of a teacher lie deeper.

    Raises:
        RecipeError: No CUDA device here.
    """
    for key, value in settings.items():
        if isinstance(value, Mapping):
            require_devices(value)
        elif key == "device" and value == "cuda":
            open_device("cuda")


def has_fast_bf16(device: torch.device) -> bool:
    """Tell whether bfloat16 convolutions are faster than float32 ones there.

    On a CPU without the instructions they are emulated and three times slower.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported())


def place(module: Module, device: torch.device) -> Module:
    """Move a network to the device it is trained on, channels last in memory."""
    module.to(device)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def unplace(module: Module) -> Module:
    """Bring a network back to the ordinary memory layout of the CPU."""
    module.cpu()
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return module


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Give the context in which forward passes of training run: weights stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_fast_bf16(device))
