"""What transformers and F2F compute in float32: LayerNorm, the activation, attention's softmax.

They say `.float()` themselves: after `.half()` they still compute in float32, and the exported
graph carries the casts. Attention is written out, because the fused operation hides its softmax
from such casts.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as nnf
from torch import Tensor, nn

ActivationName = Literal["gelu", "silu"]


class Norm(nn.LayerNorm):
    """LayerNorm over the last axis, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Give float32, whatever it is given."""
        weight, bias = self.weight.float(), self.bias.float()
        return nnf.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps)


class Activation(nn.Module):
    """GELU with the exact error function, or SiLU, in float32."""

    def __init__(self, name: ActivationName = "gelu") -> None:
        super().__init__()
        self._name = name

    def forward(self, x: Tensor) -> Tensor:
        """Give the dtype it is given."""
        full = x.float()
        return (nnf.gelu(full) if self._name == "gelu" else nnf.silu(full)).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, head: int) -> Tensor:
    """Let every token ask every token, head by head.

    Args:
        query: (B, heads, tokens, head).
        key: Likewise.
        value: Likewise.
        head: Channels of a head: a number, for a shape that is asked for becomes part of a graph.

    Returns:
        (B, heads, tokens, head), in `value`'s dtype.
    """
    # Scaled before the product, which is the smaller number in half precision.
    asked: Tensor = (query * head**-0.5) @ key.transpose(-2, -1)
    shares = asked.float().softmax(-1).to(value.dtype)
    return shares @ value
