"""What one modality's network says instead of the other's encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.methods.cmdiad.hallucination_f2f import FeatureToFeature
from loupe_trainer.methods.cmdiad.hallucination_f2i import FeatureToInput
from loupe_trainer.methods.cmdiad.hallucination_i2f import InputToFeature
from loupe_trainer.precision import scale_weights
from loupe_trainer.teachers.normalise import ImageNetNormalise

Kind = Literal["f2f", "f2i", "i2f", "none"]
Direction = Literal["depth_from_rgb", "rgb_from_depth"]


class Hallucination(nn.Module, ABC):
    """The other modality's tokens, from what is there of the main modality.

    Attributes:
        network: What distillation teaches.
    """

    network: nn.Module

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @abstractmethod
    def amplify(self, gain: float) -> None:
        """Scale what it says."""

    @abstractmethod
    def forward(self, tokens: Tensor, picture: Tensor | None) -> Tensor:
        """Give the other modality's tokens, (B, C', h', w') float32.

        Args:
            tokens: (B, C, h, w), the main modality's.
            picture: (B, 3, H, W), its input: `colour_picture` or `cloud_picture`; only I2F looks
                at it.
        """


class FromFeatures(Hallucination):
    """F2F: token by token."""

    network: FeatureToFeature

    def amplify(self, gain: float) -> None:
        """Scale what it says."""
        scale_weights(self.network.last, gain)

    def forward(self, tokens: Tensor, picture: Tensor | None) -> Tensor:  # noqa: ARG002
        """Give one token for each of the main modality's, on its grid."""
        answer: Tensor = self.network(tokens)
        return answer


class FromInput(Hallucination):
    """I2F: the main modality's encoder has no part in it.

    Args:
        network: Taught on normalised pictures.
        normalisation: Of colour; None takes the cloud in metres as it is.
    """

    network: InputToFeature

    def __init__(self, network: InputToFeature, normalisation: nn.Module | None) -> None:
        super().__init__(network)
        self.normalisation = nn.Identity() if normalisation is None else normalisation

    def amplify(self, gain: float) -> None:
        """Scale what it says."""
        scale_weights(self.network.last, gain)

    def forward(self, tokens: Tensor, picture: Tensor | None) -> Tensor:  # noqa: ARG002
        """Give tokens at a quarter of the input's size."""
        if picture is None:
            raise TypeError("I2F looks at the input, and was given none")
        answer: Tensor = self.network(self.normalisation(picture))
        return answer


class ThroughColour(Hallucination):
    """F2I with depth for the main modality: a colour picture is painted, and encoded.

    Args:
        network: Gives pictures in ImageNet's normalisation.
        encoder: Of colour, frozen; takes (B, 3, H, W) in 0..255.
    """

    network: FeatureToInput

    def __init__(self, network: FeatureToInput, encoder: Encoder) -> None:
        super().__init__(network)
        self.encoder = encoder
        self.normalisation = ImageNetNormalise()

    def amplify(self, gain: float) -> None:
        """Scale what it says."""
        self.encoder.amplify(gain)

    def forward(self, tokens: Tensor, picture: Tensor | None) -> Tensor:  # noqa: ARG002
        """Give what the encoder says of the painted picture."""
        painted = self.network(tokens) * self.normalisation.std + self.normalisation.mean
        answer: Tensor = self.encoder(painted)
        return answer


def colour_picture(rgb: Tensor) -> Tensor:
    """Give (1, 3, H, W) float32 in 0..255 of the graph's `rgb`, uint8 (1, H, W, 3)."""
    # Cast before Permute: TensorRT takes uint8 at the network's edge only.
    return rgb.float().permute(0, 3, 1, 2)


def cloud_picture(xyz: Tensor) -> Tensor:
    """Give (1, 3, H, W) float32 metres of the graph's `xyz`, (1, H, W, 3)."""
    return xyz.permute(0, 3, 1, 2)


__all__ = [
    "Direction", "FeatureToFeature", "FeatureToInput", "FromFeatures", "FromInput", "Hallucination",
    "InputToFeature", "Kind", "ThroughColour", "cloud_picture", "colour_picture",
]  # fmt: skip
