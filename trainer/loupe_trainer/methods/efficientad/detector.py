"""What is exported: bytes in, normalised anomaly map and image score out."""

from __future__ import annotations

import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.methods.base import Detector
from loupe_trainer.methods.efficientad.area import InspectedArea
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.losses import squared_distance_map
from loupe_trainer.methods.efficientad.tiling import Tiling
from loupe_trainer.methods.map_scale import MapScale
from loupe_trainer.precision import scale_weights
from loupe_trainer.teachers.normalise import ImageNetNormalise
from loupe_trainer.teachers.pdn import STRIDE_PX, Pdn


class EfficientAdDetector(Detector):
    """Teacher, student and autoencoder behind one normalisation.

    Takes `rgb`, uint8 (1, H, W, 3). Convolutions run in the networks' own dtype; everything
    around them is float32, said explicitly, so that a half-precision copy keeps these islands.

    Args:
        teacher: With the statistics of its channels folded in.
        student: Twice the teacher's channels.
        autoencoder: For pictures of one size, or tiles of it.
        global_weight: Share of the autoencoder's map in the fused one.
        area: Of the map that counts; None is all of it but its border.
        tiling: None where the networks see the picture whole.

    Attributes:
        front: What every picture passes before anything else; empty unless a recipe asks for more.
    """

    def __init__(
        self, teacher: Pdn, student: Pdn, autoencoder: Autoencoder, global_weight: float = 0.5,
        area: InspectedArea | None = None, tiling: Tiling | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.global_weight = global_weight
        self.area = area or InspectedArea(autoencoder.input_hw)
        self.tiling = tiling
        self.front = nn.Sequential()
        self.normalise = ImageNetNormalise()
        self.teacher = teacher
        self.student = student
        self.autoencoder = autoencoder
        self.local_scale = MapScale()
        self.global_scale = MapScale()

    @property
    def n_windows(self) -> int:
        """How many pictures the networks see of one: itself, or its tiles."""
        return 1 if self.tiling is None else self.tiling.n_tiles

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Answer for (1, H, W, 3) uint8."""
        local_map, global_map = self.raw_maps(rgb)
        share = self.global_weight
        fused = (1 - share) * self.local_scale(local_map) + share * self.global_scale(global_map)
        blanked = self.area.blank(fused)
        anomaly_map = nnf.interpolate(blanked, scale_factor=STRIDE_PX, mode="bilinear")
        return anomaly_map, self.area.score(fused, anomaly_map)

    def amplify(self, gain: float) -> None:
        """Scale what teacher, student and autoencoder say, by their last layers."""
        for last in (self.teacher.last, self.student.last, self.autoencoder.last):
            scale_weights(last, gain)

    def raw_maps(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Give both maps before any scale, (1, 1, H/4 - 8, W/4 - 8) float32.

        Returns:
            Where the student fails to imitate the teacher, and where it disagrees with the
            autoencoder.
        """
        # Cast before Permute: TensorRT takes uint8 at the network's edge only.
        picture = self.normalise(self.front(rgb.float().permute(0, 3, 1, 2)))
        if self.tiling is None:
            return self._window_maps(picture)
        local_maps, global_maps = self._window_maps(self.tiling.cut(picture))
        return self.tiling.stitch(local_maps), self.tiling.stitch(global_maps)

    def _window_maps(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Give both maps of (B, 3, h, w), the picture itself or its tiles."""
        stemmed = self.teacher.stem(picture)
        shared = self.student.stem is self.teacher.stem
        teacher = self.teacher.describe(stemmed).float()
        begun = stemmed if shared else self.student.stem(picture)
        of_teacher, of_autoencoder = self.student.describe_halves(begun)
        autoencoder = self.autoencoder(picture.to(self.student.last.weight.dtype)).float()
        return (
            squared_distance_map(teacher, of_teacher.float()),
            squared_distance_map(autoencoder, of_autoencoder.float()),
        )


def fold_statistics(teacher: Pdn, mean: Tensor, std: Tensor) -> None:
    """Make a teacher give (output - mean) / std, by changing the weights of its last layer.

    Args:
        teacher: Changed in place.
        mean: (C,) of its channels over the training pictures.
        std: (C,), positive.
    """
    last = teacher.last
    bias = nn.Parameter((_bias(last) - mean) / std, requires_grad=False)
    last.weight = nn.Parameter(last.weight / std.view(-1, 1, 1, 1), requires_grad=False)
    last.bias = bias


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
