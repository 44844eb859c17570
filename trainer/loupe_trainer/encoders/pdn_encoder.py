"""A patch description network as the colour encoder, where no transformer's weights are at hand.

EfficientAD's teacher (Batzner et al., WACV 2024), as `loupe-trainer pretrain` makes it in a minute
from good parts and drawn textures. Ours in this place: CMDIAD has a transformer there.
"""

from __future__ import annotations

import copy
from typing import Final

from torch import Tensor

from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.planes import Continued
from loupe_trainer.precision import scale_weights
from loupe_trainer.teachers.normalise import ImageNetNormalise
from loupe_trainer.teachers.pdn import RECEPTIVE_FIELD_PX, STRIDE_PX
from loupe_trainer.teachers.weights import Teacher

BORDER_PX: Final = RECEPTIVE_FIELD_PX // 2


class PdnEncoder(Encoder):
    """Describes what lies around every fourth pixel, the picture continued with its border."""

    name = "pdn"
    tensors = ("rgb",)

    def __init__(self, teacher: Teacher, size_hw: tuple[int, int]) -> None:
        """Take a teacher's network over.

        Args:
            teacher: Is copied.
            size_hw: Of pictures, multiples of 4.
        """
        super().__init__()
        self.normalise = ImageNetNormalise()
        self.network = copy.deepcopy(teacher.network).eval().requires_grad_(requires_grad=False)
        self.channels, self.origin = teacher.network.channels, teacher.backbone
        self.patches_hw = (size_hw[0] // STRIDE_PX, size_hw[1] // STRIDE_PX)
        self.around = Continued(size_hw, BORDER_PX)

    def amplify(self, gain: float) -> None:
        """Scale what it says, by its last layer."""
        scale_weights(self.network.last, gain)

    def forward(self, picture: Tensor) -> Tensor:
        """Describe pictures.

        Args:
            picture: (B, 3, H, W) float32 in 0..255, red first, not normalised.

        Returns:
            (B, C, H / 4, W / 4) float32.
        """
        normalised = self.normalise(picture.float())
        wide = self.around(normalised)
        described: Tensor = self.network(wide)
        return described.float()
