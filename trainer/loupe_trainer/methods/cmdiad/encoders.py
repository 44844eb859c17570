"""The frozen encoders of a run: from published weights, trained on the good parts, or untaught."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from loupe_models.manifest import Backbone
from loupe_models.preprocess import Tensors
from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.encoders.pdn_encoder import PdnEncoder
from loupe_trainer.encoders.point_encoder import PointEncoder
from loupe_trainer.encoders.point_training import PointTraining, train_tiny_point_mae
from loupe_trainer.encoders.point_weights import open_point_mae
from loupe_trainer.encoders.relief import ReliefEncoder
from loupe_trainer.encoders.surface_encoder import SurfaceEncoder
from loupe_trainer.encoders.surface_training import SurfaceTraining, train_surface_encoder
from loupe_trainer.encoders.vit import Vit
from loupe_trainer.encoders.vit_tiny import TinyVitConfig, train_tiny_vit
from loupe_trainer.encoders.vit_weights import open_vit
from loupe_trainer.methods.cmdiad.config import (
    CmdiadConfig,
    GroupedConfig,
    PdnConfig,
    ReliefConfig,
    SurfaceConfig,
    VitConfig,
)
from loupe_trainer.methods.cmdiad.kinds import Modality
from loupe_trainer.methods.cmdiad.material import Material
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.pretrain import teacher_of_parts

TINY_VIT: Final = "tiny_vit.safetensors"
TINY_POINT_MAE: Final = "tiny_point_mae.safetensors"
N_CENTRED: Final = 32  # frames, of a thousand groups each
SURFACE: Final = "surface.safetensors"


@dataclass(frozen=True, slots=True)
class Encoders:
    """What describes colour and depth; None where nobody asks for it.

    Attributes:
        backbone: Whose weights they learnt from, or are.
    """

    rgb: Encoder | None
    depth: Encoder | None
    backbone: Backbone | None

    def of(self, modality: Modality) -> Encoder:
        """Give one of them."""
        found = self.rgb if modality == "rgb" else self.depth
        if found is None:
            raise TypeError(f"nobody asked for an encoder of {modality}")
        return found

    def inputs(
        self, modality: Modality, material: Material, frames: npt.NDArray[np.intp]
    ) -> tuple[Tensor, ...]:
        """Give what an encoder takes of some frames."""
        if modality == "rgb" or self.depth is None:
            return (material.colour(frames),)
        return tuple(material.tensors(frames, name) for name in self.depth.tensors)


@dataclass(frozen=True, slots=True)
class Opening:
    """What encoders are opened with.

    Attributes:
        folder: What relative paths start from.
        material: Good frames; the tiny ones learn from those for the banks.
    """

    config: CmdiadConfig
    seed: int
    folder: Path
    material: Material
    run: RunFolder
    progress: Progress

    def encoders(self, wanted: Sequence[Modality]) -> Encoders:
        """Open or train what is asked for.

        Raises:
            WeightsError: Weights are missing, foreign or damaged; the message says what to do.
        """
        # Both are read before either learns: a missing file is told at once.
        vit = self._published_vit() if "rgb" in wanted else None
        points = self._published_points() if "depth" in wanted else None
        rgb = self._rgb(vit) if "rgb" in wanted else None
        depth = self._depth(points) if "depth" in wanted else None
        origins = [one.origin for one in (rgb, depth) if one is not None]
        return Encoders(rgb, depth, joined([origin for origin in origins if origin is not None]))

    def _published_vit(self) -> Vit | None:
        config, side = self.config.rgb, self.config.size_px
        if isinstance(config, PdnConfig) or config.weights is None:
            return None
        return open_vit(self.folder / config.weights, (side, side), config.licence)

    def _published_points(self) -> PointEncoder | None:
        config = self.config.depth
        if isinstance(config, ReliefConfig) or config.weights is None:
            return None
        return open_point_mae(self.folder / config.weights, config.licence, *self._sizes(config))

    def _rgb(self, published: Vit | None) -> Encoder:
        if published is not None:
            return published
        config = self.config.rgb
        return self._pdn(config) if isinstance(config, PdnConfig) else self._tiny_vit(config)

    def _tiny_vit(self, config: VitConfig) -> Vit:
        side = self.config.size_px
        tiny = TinyVitConfig(
            channels=config.channels, depth=config.depth, steps=config.steps, seed=self.seed,
            input_hw_px=(side, side), device=self.config.device,
        )  # fmt: skip
        file = self.run.checkpoints / TINY_VIT
        return train_tiny_vit(self._pictures(), tiny, file, self.progress)

    def _pdn(self, config: PdnConfig) -> PdnEncoder:
        side = self.config.size_px
        named = None if config.teacher is None else self.folder / config.teacher
        pretraining = config.pretrain.relative_to(self.folder)
        kept = self.run.checkpoints
        teacher = teacher_of_parts(named, pretraining, kept, self._pictures, self.progress)
        return PdnEncoder(teacher, (side, side))

    def _pictures(self) -> list[npt.NDArray[np.uint8]]:
        return [np.asarray(sample["rgb"], np.uint8)[0] for sample in self._samples()]

    def _depth(self, published: PointEncoder | None) -> Encoder:
        config = self.config.depth
        if isinstance(config, ReliefConfig):
            return self._relief(config)
        exact = self._tiny_points(config) if published is None else published
        if not self.config.distillation.paper:
            exact.centre(islice(self._samples(), N_CENTRED))
        return self._surface(config, exact) if isinstance(config, SurfaceConfig) else exact

    def _tiny_points(self, config: GroupedConfig) -> PointEncoder:
        training = PointTraining(steps=config.steps, seed=self.seed)
        file = self.run.checkpoints / TINY_POINT_MAE
        network = train_tiny_point_mae(list(self._samples()), training, file, self.progress)
        return PointEncoder(network, None, *self._sizes(config))

    def _sizes(self, config: GroupedConfig) -> tuple[tuple[int, int], int, int]:
        side = self.config.size_px
        return (side, side), self.config.depth_side, config.n_points

    def _surface(self, config: SurfaceConfig, exact: PointEncoder) -> SurfaceEncoder:
        training = SurfaceTraining(steps=config.surface_steps, seed=self.seed)
        file = self.run.checkpoints / SURFACE
        samples = list(self._samples())
        return train_surface_encoder(samples, exact, training, file, self.progress)

    def _relief(self, config: ReliefConfig) -> ReliefEncoder:
        side, border_px = self.config.size_px, self.config.border_px
        place_mm = config.place_mm or None
        return ReliefEncoder(place_mm, (side, side), self.config.depth_side, border_px).eval()

    def _samples(self) -> Iterator[Tensors]:
        material = self.material
        return (material.samples[int(i)] for i in material.order[: material.n_for_banks])


def joined(origins: Sequence[Backbone]) -> Backbone | None:
    """Name several backbones as one: whoever ships the bundle owes all their licences.

    The hash of several is that of their hashes, one a line, in the order of the names.
    """
    if len(origins) < 2:
        return origins[0] if origins else None
    lines = "".join(f"{origin.sha256}\n" for origin in origins)
    return Backbone(
        name=" + ".join(origin.name for origin in origins),
        licence=" AND ".join(dict.fromkeys(origin.licence for origin in origins)),
        sha256=hashlib.sha256(lines.encode()).hexdigest(),
    )
