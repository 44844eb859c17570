"""F2F: a token of one modality from the token of the other at the same place."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from loupe_trainer.encoders.float32_parts import Activation, Norm

HIDDEN_SHARE: Final = 1.25  # of both widths together: 768 + 768 gives the paper's 1920


class FeatureToFeature(nn.Module):
    """A perceptron applied to every token by itself; CMDIAD, section 3.2, code of 2025-06.

    Args:
        channels_in: Of the main modality's tokens.
        channels_out: Of the other's.
        gelu_output: As published, which holds every output above -0.17; the targets, which come
            out of a LayerNorm, lie on both sides of zero. False leaves the output linear.
    """

    def __init__(self, channels_in: int, channels_out: int, *, gelu_output: bool = False) -> None:
        super().__init__()
        width = round(HIDDEN_SHARE * (channels_in + channels_out))
        self.gelu_output = gelu_output
        self.gelu = Activation()
        self.norm = Norm(channels_in)
        self.first = nn.Linear(channels_in, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, channels_out)

    def forward(self, tokens: Tensor) -> Tensor:
        """Give (B, C_out, h, w) float32 of (B, C_in, h, w).

        Matrix products run in the weights' dtype, everything else in float32.
        """
        rows = tokens.flatten(2).transpose(1, 2)  # (B, h*w, C_in)
        hidden = self.gelu(_linear(self.first, self.norm(rows)))
        hidden = self.gelu(_linear(self.second, hidden))
        out = _linear(self.last, hidden)
        out = self.gelu(out) if self.gelu_output else out
        height, width = tokens.shape[-2:]
        return out.transpose(1, 2).reshape(-1, out.shape[-1], height, width)


def _linear(layer: nn.Linear, rows: Tensor) -> Tensor:
    answer: Tensor = layer(rows.to(layer.weight.dtype))
    return answer.float()
