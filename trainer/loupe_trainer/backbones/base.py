"""What a backbone is to those who learn from it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from loupe_trainer.published_weights import Whose


class Backbone(nn.Module, ABC):
    """A frozen, pretrained network and whose it is.

    Attributes:
        whose: Its name, its licence, and the hash of the file its weights came from.
        strides_px: Of its feature maps, finest first.
        channels: Of its feature maps.
    """

    whose: Whose
    strides_px: tuple[int, ...]
    channels: tuple[int, ...]

    @abstractmethod
    def features(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Describe (B, 3, H, W) red-first pictures in 0..255; normalising is the backbone's.

        Returns:
            One (B, C, H / stride, W / stride) map for each of `strides_px`, rounded where a
            side is no multiple of it.
        """
