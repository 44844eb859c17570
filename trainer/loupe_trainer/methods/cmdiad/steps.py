"""The preprocessing of each mode: the same steps, and of their tensors those it looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from loupe_models.manifest import Mode
from loupe_models.preprocess import (
    AnyStep,
    Cloud,
    Crop,
    Group,
    PreprocessSpec,
    RemoveBelt,
    Resize,
    SamplePoints,
    TensorName,
)
from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.encoders.point_encoder import PointEncoder
from loupe_trainer.encoders.relief import ReliefEncoder
from loupe_trainer.encoders.surface_encoder import SurfaceEncoder
from loupe_trainer.methods.cmdiad.config import CmdiadConfig, ReliefConfig

DEPTH_ENCODERS: Final[Mapping[str, type[Encoder]]] = {
    encoder.name: encoder for encoder in (PointEncoder, SurfaceEncoder, ReliefEncoder)
}
GROUPED: Final = PointEncoder.tensors


def mode_tensors(config: CmdiadConfig, mode: Mode) -> tuple[TensorName, ...]:
    """Name the tensors of a mode's graph, in order."""
    depth = encoder_tensors(config)
    if mode == "rgb":
        return ("rgb",)
    if mode == "rgbd":
        return ("rgb", *depth)
    return tuple(dict.fromkeys((*depth, *_cloud(config))))


def learnt_tensors(config: CmdiadConfig, modes: Sequence[Mode]) -> tuple[TensorName, ...]:
    """Name the tensors that are learnt from: distillation takes both modalities."""
    if config.distillation.kind == "none":
        names = [name for mode in modes for name in mode_tensors(config, mode)]
    else:
        names = ["rgb", *encoder_tensors(config), *_cloud(config)]
    if config.depth.kind == "surface" and set(names) - {"rgb"}:
        names += GROUPED  # the surface network's teacher looks at them
    return tuple(dict.fromkeys(names))


def encoder_tensors(config: CmdiadConfig) -> tuple[TensorName, ...]:
    """Name what the depth encoder takes."""
    return DEPTH_ENCODERS[config.depth.kind].tensors


def preprocessing(config: CmdiadConfig, tensors: Sequence[TensorName]) -> PreprocessSpec:
    """Cut out the gate's region, bring it to one size, and make of depth what is asked for."""
    steps: list[AnyStep] = [Crop(), Resize(width_px=config.size_px, height_px=config.size_px)]
    if set(tensors) - {"rgb"}:
        steps.append(Cloud())
        if config.depth.remove_belt:
            steps.append(RemoveBelt())
    if set(tensors) & set(GROUPED) and not isinstance(config.depth, ReliefConfig):
        steps += [
            SamplePoints(n_points=config.depth.n_points), Group(size=config.depth.group_size)
        ]  # fmt: skip
    return PreprocessSpec(steps=tuple(steps), tensors=tuple(tensors))


def _cloud(config: CmdiadConfig) -> tuple[TensorName, ...]:
    """I2F looks at the cloud itself."""
    return ("xyz",) if config.distillation.kind == "i2f" else ()
