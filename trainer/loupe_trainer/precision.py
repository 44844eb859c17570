"""What stays float32 when the network around it is copied to FP16.

`.float()` in `forward` makes a computation float32; it does not bring back the digits that `half()`
took from a constant. Means, scales and interpolation weights need them: a mean that is taken off
larger numbers than it leaves, or a variance so small that FP16 has few steps for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn


class KeepsFloat32(nn.Module):
    """A module some of whose buffers keep their float32 values through `half()`.

    Attributes:
        float32_buffers: Names of those buffers; they still follow the module to another device.
    """

    float32_buffers: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        kept = {name: getattr(self, name) for name in self.float32_buffers}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, values in kept.items():
            moved: Tensor = getattr(self, name)
            if moved.dtype != torch.float32:
                setattr(self, name, values.to(moved.device))
        return self


@torch.no_grad()
def scale_weights(layer: nn.Module, gain: float) -> None:
    """Scale a layer's own weights and biases, and with them what it says."""
    for values in layer.parameters(recurse=False):
        values.mul_(gain)


class StaysFloat32(nn.Module):
    """A module that keeps all its float32 values, and those of what it holds, through `half()`."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        def moved(values: Tensor) -> Tensor:
            given = fn(values)
            loses = given.element_size() < values.element_size()
            return values.to(given.device) if loses else given

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self
