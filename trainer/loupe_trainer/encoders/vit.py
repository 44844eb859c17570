"""One vision transformer for every backbone of colour: DINO, DINOv2, DINOv3's ViT, and a tiny one.

Caron et al., *Emerging Properties in Self-Supervised Vision Transformers* (ICCV 2021, DINO);
Oquab et al. 2023 (DINOv2); Darcet et al. 2024 (registers); Siméoni et al. 2025 (DINOv3). They
differ in `VitSpec` only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from loupe_models.manifest import Backbone
from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.encoders.float32_parts import Norm
from loupe_trainer.encoders.vit_blocks import Block
from loupe_trainer.encoders.vit_spec import VitSpec
from loupe_trainer.precision import scale_weights
from loupe_trainer.teachers.normalise import Normalise

INITIAL_SPREAD = 0.02


class Vit(Encoder):
    """Describes every patch of a picture of one size.

    Attributes:
        spec: What it is.
        patch_px: Side of a patch.
    """

    name = "vit"
    tensors = ("rgb",)

    def __init__(self, spec: VitSpec, origin: Backbone | None = None) -> None:
        super().__init__()
        self.spec, self.origin = spec, origin
        self.channels, self.patch_px = spec.channels, spec.patch_px
        self.patches_hw = spec.grid_hw
        self.normalise = Normalise(spec.mean_rgb, spec.std_rgb)
        self.patch = nn.Conv2d(3, spec.channels, spec.patch_px, stride=spec.patch_px)
        self.class_token = nn.Parameter(torch.zeros(1, 1, spec.channels))
        self.registers = nn.Parameter(torch.zeros(1, spec.n_registers, spec.channels))
        # Of the class token and the patches; registers have none.
        self.positions: nn.Parameter | None = None
        if spec.positions == "learnt":
            self.positions = nn.Parameter(torch.zeros(1, 1 + spec.n_patches, spec.channels))
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.depth))
        self.norm = Norm(spec.channels, spec.epsilon)

    def forward(self, picture: Tensor) -> Tensor:
        """Describe pictures.

        Args:
            picture: (B, 3, H, W) float32 in 0..255, red first, not normalised; H and W are those
                of the spec.

        Returns:
            (B, C, h, w) float32 patch tokens after the last norm, h = H / `patch_px`.
        """
        patches = self.tokens(picture)[:, self.spec.n_prefix :]
        return patches.transpose(1, 2).reshape(-1, self.channels, *self.patches_hw)

    def amplify(self, gain: float) -> None:
        """Scale what it says."""
        scale_weights(self.norm, gain)

    def tokens(self, picture: Tensor) -> Tensor:
        """Give all tokens after the last norm, (B, tokens, C): class, registers, patches by row."""
        x = self._embed(picture)
        for block in self.blocks:
            x = block(x)
        described: Tensor = self.norm(x)
        return described

    def _embed(self, picture: Tensor) -> Tensor:
        normalised = self.normalise(picture.float()).to(self.patch.weight.dtype)
        patches = self.patch(normalised).reshape(-1, self.channels, self.spec.n_patches)
        patches = patches.transpose(1, 2)
        first: Tensor = self.class_token
        if self.positions is not None:
            first = first + self.positions[:, :1]
            patches = patches + self.positions[:, 1:]
        prefix = torch.cat((first, self.registers), dim=1)
        if not torch.onnx.is_in_onnx_export():  # a graph takes one picture, and computes no shapes
            prefix = prefix.expand(patches.shape[0], -1, -1)
        return torch.cat((prefix, patches), dim=1)


def initialise(vit: Vit, seed: int) -> Vit:
    """Draw a network's weights, as DINO's are: normal, cut at two spreads, and biases 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in vit.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() > 1:
            spread = INITIAL_SPREAD
            nn.init.trunc_normal_(parameter, 0, spread, -2 * spread, 2 * spread, generator)
    return vit
