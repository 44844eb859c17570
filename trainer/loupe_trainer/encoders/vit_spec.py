"""What one vision transformer is, as its file tells it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from loupe_models.checked import Checked
from loupe_trainer.teachers.normalise import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB

Channels = tuple[float, float, float]
Sides = tuple[int, int]

MAX_SIDE_PX = 4096
MAX_TOKENS = 16_384  # attention takes the square of them


class VitSpec(Checked):
    """A vision transformer for pictures of one size.

    Attributes:
        channels: Of every token.
        depth: Number of blocks.
        hidden: Channels inside a block's MLP.
        n_registers: Further tokens beside the class token (Darcet et al. 2024); dropped at the end.
        positions: `learnt` are added to the tokens once (DINO, DINOv2), `rotary` turn queries and
            keys in every block (DINOv3).
        layer_scale: Whether what a block adds is scaled by channel (DINOv2, DINOv3).
        gated: Whether the MLP is gated (SwiGLU).
        epsilon: Of LayerNorm.
        rope_base: Of rotary positions.
        input_hw_px: Height and width of pictures; multiples of `patch_px`.
        mean_rgb: Of the pictures that the weights were trained on, in 0..1.
        std_rgb: Likewise their spread.
    """

    channels: int = Field(ge=8, le=8192, multiple_of=4)
    depth: int = Field(ge=1, le=128)
    n_heads: int = Field(ge=1, le=128)
    hidden: int = Field(ge=8, le=65_536)
    patch_px: int = Field(ge=2, le=64)
    input_hw_px: Sides
    n_registers: int = Field(default=0, ge=0, le=64)
    positions: Literal["learnt", "rotary"] = "learnt"
    layer_scale: bool = False
    gated: bool = False
    activation: Literal["gelu", "silu"] = "gelu"
    epsilon: float = Field(default=1e-6, ge=0, le=1e-2)
    rope_base: float = Field(default=100.0, gt=1)
    mean_rgb: Channels = IMAGENET_MEAN_RGB
    std_rgb: Channels = IMAGENET_STD_RGB

    @property
    def grid_hw(self) -> Sides:
        """Rows and columns of patches."""
        height_px, width_px = self.input_hw_px
        return height_px // self.patch_px, width_px // self.patch_px

    @property
    def n_patches(self) -> int:
        """Number of patches."""
        rows, columns = self.grid_hw
        return rows * columns

    @property
    def n_prefix(self) -> int:
        """Number of tokens before the patches: class token and registers."""
        return 1 + self.n_registers

    @property
    def n_tokens(self) -> int:
        """Number of all tokens."""
        return self.n_prefix + self.n_patches

    @model_validator(mode="after")
    def _whole(self) -> VitSpec:
        if self.channels % self.n_heads:
            raise ValueError(f"{self.channels} channels do not divide into {self.n_heads} heads")
        if self.positions == "rotary" and self.channels // self.n_heads % 4:
            raise ValueError("rotary positions take heads of a multiple of 4 channels")
        height_px, width_px = self.input_hw_px
        if height_px % self.patch_px or width_px % self.patch_px:
            raise ValueError(
                f"pictures of {height_px} x {width_px} pixels do not divide into patches of "
                f"{self.patch_px}; choose multiples of {self.patch_px}"
            )
        if min(height_px, width_px) < self.patch_px or max(height_px, width_px) > MAX_SIDE_PX:
            raise ValueError(
                f"pictures of {height_px} x {width_px} pixels; a side has {self.patch_px} to "
                f"{MAX_SIDE_PX}"
            )
        if self.n_patches > MAX_TOKENS:
            raise ValueError(
                f"{self.n_patches} patches a picture, at most {MAX_TOKENS}; choose a smaller input"
            )
        return self
