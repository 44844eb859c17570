"""The transformer of Point-MAE: pre-norm blocks, and a learnt position before each of them.

Pang et al., *Masked Autoencoders for Point Cloud Self-supervised Learning* (ECCV 2022), section 3.
Names are the published checkpoint's. What `float32_parts` holds stays in float32, whatever the rest
of the graph is cast to; and so does what sees metres.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from loupe_trainer.encoders.float32_parts import Activation, Norm, attend
from loupe_trainer.precision import StaysFloat32

MLP_RATIO = 4
POSITION_HIDDEN = 128


class Attention(nn.Module):
    """Softmax attention of every token to every token; queries, keys and values have no bias."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads, self.head_width = n_heads, width // n_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Take (B, G, width) and give the same shape."""
        heads = self.qkv(x).unflatten(-1, (3, self.n_heads, self.head_width))
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, G, width)
        answer = attend(query, key, value, self.head_width)
        mixed: Tensor = self.proj(answer.transpose(1, 2).flatten(2))
        return mixed


class Mlp(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.act = Activation()
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Take (B, G, width) and give the same shape."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a shortcut; no DropPath.

    The shortcut is float32: tokens of one part have much in common, and differ by little.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.norm1 = Norm(width)
        self.attn = Attention(width, n_heads)
        self.norm2 = Norm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """Take (B, G, width) and give the same shape, float32."""
        dtype = self.mlp.fc1.weight.dtype
        x = x.float() + self.attn(self.norm1(x).to(dtype)).float()
        y: Tensor = x + self.mlp(self.norm2(x).to(dtype)).float()
        return y


class Blocks(nn.Module):
    """Blocks in a row; each sees the position anew."""

    def __init__(self, depth: int, width: int, n_heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, n_heads) for _ in range(depth))

    def forward(self, x: Tensor, position: Tensor) -> list[Tensor]:
        """Give what every block says, (B, G, width) each."""
        said = []
        for block in self.blocks:
            x = block(x + position)
            said.append(x)
        return said


class PositionMlp(StaysFloat32, nn.Sequential):
    """Turns a centre (…, 3) into a position (…, width), float32: it sees metres, and is small."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Linear(3, POSITION_HIDDEN), Activation(), nn.Linear(POSITION_HIDDEN, width)
        )

    def forward(self, metres: Tensor) -> Tensor:
        """Give (…, width)."""
        position = metres.float()
        for layer in self:
            position = layer(position)
        return position


def initialise(network: nn.Module) -> None:
    """Draw weights as the authors do: truncated normal of 0.02, biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
