"""The blocks of a vision transformer, written so that a half-precision copy stays right.

Rotary positions, and what `float32_parts` holds, stay in float32. Shapes are Python numbers
wherever they can be, so that no shape is computed in the graph.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from loupe_trainer.encoders.float32_parts import Activation, Norm, attend
from loupe_trainer.encoders.vit_spec import VitSpec
from loupe_trainer.precision import StaysFloat32


class Rotary(StaysFloat32):
    """Turns pairs of channels of patch tokens by angles that grow with their place.

    Heo et al., *Rotary Position Embedding for Vision Transformer* (ECCV 2024), as DINOv3 has it:
    centres of patches in -1..1, half of the angles for rows and half for columns. Tokens before
    the patches have no place and are left alone: their angle is 0.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, spec: VitSpec) -> None:
        super().__init__()
        head = spec.channels // spec.n_heads
        frequency = spec.rope_base ** -torch.arange(0, 1, 4 / head, dtype=torch.float32)
        rows, columns = (2 * torch.arange(0.5, n) / n - 1 for n in spec.grid_hw)
        centres = torch.cartesian_prod(rows, columns)  # (P, 2)
        angles = (2 * math.pi * centres[:, :, None] * frequency).flatten(1).tile(2)  # (P, head)
        angles = torch.cat((torch.zeros(spec.n_prefix, head), angles))
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn queries or keys, (B, heads, tokens, head)."""
        full = x.float()
        half = self.cosine.shape[-1] // 2
        first, second = full[..., :half], full[..., half:]
        turned = torch.cat((-second, first), dim=-1)
        return (full * self.cosine + turned * self.sine).to(x.dtype)


class Attention(nn.Module):
    """Every token asks every token."""

    def __init__(self, spec: VitSpec) -> None:
        super().__init__()
        self.qkv = nn.Linear(spec.channels, 3 * spec.channels)
        self.out = nn.Linear(spec.channels, spec.channels)
        self.rotary = Rotary(spec) if spec.positions == "rotary" else None
        self._shape = (spec.n_tokens, spec.n_heads, spec.channels // spec.n_heads)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, tokens, C)."""
        n_tokens, n_heads, head = self._shape
        three = self.qkv(x).reshape(-1, n_tokens, 3, n_heads, head).permute(2, 0, 3, 1, 4)
        query, key, value = three[0], three[1], three[2]
        if self.rotary is not None:
            query, key = self.rotary(query), self.rotary(key)
        answer = attend(query, key, value, head).transpose(1, 2)
        answer = answer.reshape(-1, n_tokens, n_heads * head)
        given: Tensor = self.out(answer)
        return given


class Mlp(nn.Module):
    """Two linear layers around an activation; gated, a third one multiplies it (SwiGLU)."""

    def __init__(self, spec: VitSpec) -> None:
        super().__init__()
        self.gate = nn.Linear(spec.channels, spec.hidden) if spec.gated else None
        self.up = nn.Linear(spec.channels, spec.hidden)
        self.down = nn.Linear(spec.hidden, spec.channels)
        self.act = Activation(spec.activation)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, tokens, C)."""
        up = self.up(x)
        hidden = self.act(up) if self.gate is None else self.act(self.gate(x)) * up
        given: Tensor = self.down(hidden)
        return given


class Block(nn.Module):
    """Attention and an MLP, each normalised before and added after.

    The shortcut is float32: tokens of one part have much in common, and differ by little.
    """

    def __init__(self, spec: VitSpec) -> None:
        super().__init__()
        self.norm1 = Norm(spec.channels, spec.epsilon)
        self.attention = Attention(spec)
        self.norm2 = Norm(spec.channels, spec.epsilon)
        self.mlp = Mlp(spec)
        self.scale1: nn.Parameter | None = None
        self.scale2: nn.Parameter | None = None
        if spec.layer_scale:
            self.scale1 = nn.Parameter(torch.ones(spec.channels))
            self.scale2 = nn.Parameter(torch.ones(spec.channels))

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, tokens, C), float32."""
        dtype = self.mlp.up.weight.dtype
        attended = self.attention(self.norm1(x).to(dtype)).float()
        x = x.float() + (attended if self.scale1 is None else attended * self.scale1.float())
        thought = self.mlp(self.norm2(x).to(dtype)).float()
        y: Tensor = x + (thought if self.scale2 is None else thought * self.scale2.float())
        return y
