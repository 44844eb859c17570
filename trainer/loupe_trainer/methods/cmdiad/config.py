"""The settings of CMDIAD: a recipe's `[fit]` section."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from loupe_models.checked import Checked
from loupe_trainer.compute import DeviceName
from loupe_trainer.methods.cmdiad.hallucination import Direction, Kind
from loupe_trainer.published_weights import NOBODY_SAYS
from loupe_trainer.teachers.config import PretrainConfig

# The published rates; F2F and F2I have one for both directions.
LEARNING_RATES: Final[dict[Kind, dict[Direction, float]]] = {
    "f2f": {"depth_from_rgb": 5e-4, "rgb_from_depth": 5e-4},
    "f2i": {"depth_from_rgb": 5e-4, "rgb_from_depth": 5e-4},
    "i2f": {"depth_from_rgb": 2e-4, "rgb_from_depth": 3e-4},
}
MAX_STEPS: Final = 1_000_000


class _OneSource(Checked):
    """What is taken as it is, or else trained on the good parts.

    Attributes:
        source: The setting that names what is taken.
        of_training: Settings that mean nothing where it is taken.
        of_source: Settings that mean nothing where it is not.
    """

    source: ClassVar[str]
    of_training: ClassVar[tuple[str, ...]]
    of_source: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _nothing_is_said_in_vain(self) -> _OneSource:
        is_taken = getattr(self, self.source) is not None
        for key in self.of_training if is_taken else self.of_source:
            if key in self.model_fields_set:
                how = "beside" if is_taken else "without"
                raise ValueError(f"{key} means nothing {how} {self.source}; remove {key}")
        return self


class VitConfig(_OneSource):
    """Colour, described by a transformer, as published.

    Attributes:
        weights: A folder from the Hugging Face hub, or DINO's own .pth; relative to the recipe.
            None trains a tiny one on the good parts.
        licence: SPDX name, for weights that do not say theirs.
        channels: Of the tiny one's tokens.
        depth: Blocks of the tiny one.
        steps: Of the tiny one's training.
    """

    source = "weights"
    of_training = ("channels", "depth", "steps")
    of_source = ("licence",)

    kind: Literal["vit"] = "vit"
    weights: Path | None = None
    licence: str | None = Field(default=None, min_length=1)
    channels: int = Field(default=128, ge=32, le=768, multiple_of=32)
    depth: int = Field(default=4, ge=1, le=24)
    steps: int = Field(default=600, ge=1, le=MAX_STEPS)


class PdnConfig(_OneSource):
    """Colour, described by a patch description network.

    It is trained in a minute where no transformer's weights are at hand, and tells more than a
    tiny transformer does.

    Attributes:
        teacher: Made by `loupe-trainer pretrain`; relative to the recipe. None trains one on the
            good parts and on textures.
        pretrain: Settings of that training.
    """

    source = "teacher"
    of_training = ("pretrain",)

    kind: Literal["pdn"] = "pdn"
    teacher: Path | None = None
    pretrain: PretrainConfig = PretrainConfig(width=0.25, steps=500)


class _OfDepth(Checked):
    """What every description of depth is told.

    Attributes:
        remove_belt: Whether what is not above the station's belt is left out; false for data
            without a known belt, from which `loupe-trainer prepare` removed the plane.
    """

    remove_belt: bool = True


class GroupedConfig(_OfDepth, _OneSource):
    """What Point-MAE is told, and what is distilled from it.

    Attributes:
        weights: Point-MAE's `pretrain.pth`; relative to the recipe. None trains a tiny one on the
            good parts.
        licence: SPDX name of the weights.
        n_points: Centres sampled from the cloud.
        group_size: Neighbours of each.
        steps: Of the tiny one's training.
    """

    source = "weights"
    of_training = ("steps",)
    of_source = ("licence",)

    weights: Path | None = None
    licence: str = Field(default=NOBODY_SAYS, min_length=1)
    n_points: int = Field(default=1024, ge=8, le=8192)
    group_size: int = Field(default=128, ge=4, le=512)
    steps: int = Field(default=600, ge=1, le=MAX_STEPS)


class PointMaeConfig(GroupedConfig):
    """Depth, described by Point-MAE, which groups the cloud, exactly as published."""

    kind: Literal["point_mae"] = "point_mae"


class SurfaceConfig(GroupedConfig):
    """Depth, described without sampling or grouping by a network distilled from Point-MAE.

    Attributes:
        surface_steps: Of that distillation.
    """

    kind: Literal["surface"] = "surface"
    surface_steps: int = Field(default=600, ge=1, le=MAX_STEPS)


class ReliefConfig(_OfDepth):
    """Depth, described by relief and place; nothing is learnt, sampled or grouped.

    Attributes:
        place_mm: So far apart on the part counts as much as 1 mm of relief; 0 leaves the place
            out, for surfaces that do not lie alike, such as a road.
    """

    kind: Literal["relief"] = "relief"
    place_mm: float = Field(default=10.0, ge=0, le=1000)


def _unless_said(kind: str) -> BeforeValidator:
    """Let a recipe leave `kind` out."""

    def named(given: object) -> object:
        return {"kind": kind, **given} if isinstance(given, Mapping) else given

    return BeforeValidator(named)


AnyRgb = VitConfig | PdnConfig
AnyDepth = PointMaeConfig | SurfaceConfig | ReliefConfig
RgbEncoderConfig = Annotated[AnyRgb, Field(discriminator="kind"), _unless_said("vit")]
DepthEncoderConfig = Annotated[AnyDepth, Field(discriminator="kind"), _unless_said("point_mae")]
KINDS: Final[Mapping[str, Mapping[str, type[BaseModel]]]] = {
    modality: {model.model_fields["kind"].default: model for model in get_args(models)}
    for modality, models in (("rgb", AnyRgb), ("depth", AnyDepth))
}


class DistillationConfig(Checked):
    """How one modality learns to speak for the other; the defaults are the paper's schedule.

    Attributes:
        kind: `f2f` from features to features, `i2f` from input to features, `f2i` from features
            to input (depth only), `none` for banks of what is really seen alone.
        paper: For `f2f`, the published form with its known faults: GELU on the output, the
            depth bank's mean and the colour bank's spread for all banks, maps added up by an SVM,
            and each bank's farthest patch for the image score.
        epochs: Passes over the frames.
        batch: Frames a step.
        lr: Adam's after the warm-up, a tenth of the epochs; None takes the published one.
        log_every: Steps between lines of `metrics.jsonl`.
        checkpoint_every: Steps between checkpoints.
    """

    kind: Kind = "f2f"
    paper: bool = False
    epochs: int = Field(default=100, ge=1, le=100_000)
    batch: int = Field(default=32, ge=1, le=256)
    lr: float | None = Field(default=None, gt=0, le=0.1)
    log_every: int = Field(default=10, ge=1)
    checkpoint_every: int = Field(default=50, ge=1)

    @model_validator(mode="after")
    def _paper_is_of_f2f(self) -> DistillationConfig:
        if self.paper and self.kind != "f2f":
            raise ValueError('paper = true is the published form of f2f: set kind = "f2f"')
        return self

    def rate(self, direction: Direction) -> float:
        """Give Adam's rate."""
        return LEARNING_RATES[self.kind][direction] if self.lr is None else self.lr


class BankConfig(Checked):
    """What is kept of the good parts.

    Attributes:
        share: Of all tokens of the frames for it, chosen as far apart as can be.
        n_dimensions: Principal axes of the tokens that are searched, where they have more; None
            searches at full width.
    """

    share: float = Field(default=0.02, gt=0, le=1)
    n_dimensions: int | None = Field(default=128, ge=1, le=4096)


class CmdiadConfig(Checked):
    """How CMDIAD is trained.

    Attributes:
        rgb: What describes colour; `kind` is `vit` unless said.
        depth: What describes depth; `kind` is `point_mae` unless said.
        size_px: Side of the square input of both modalities, a multiple of 8; depth is described
            on a grid of a quarter of it.
        border_px: So far from the edge of that input the map judges nothing, and nothing of the map
            is fitted on it. A gate with clear strips has the part wholly inside them; what shows
            there is its neighbour's corner.
        fusion_share: Of the parts for fitting, kept out of the banks and of distillation: what the
            fusion is fitted on must be new to both.
    """

    size_px: int = Field(default=224, ge=32, le=1024, multiple_of=8)
    border_px: int = Field(default=0, ge=0, le=128)
    rgb: RgbEncoderConfig = VitConfig()
    depth: DepthEncoderConfig = PointMaeConfig()
    distillation: DistillationConfig = DistillationConfig()
    bank: BankConfig = BankConfig()
    fusion_share: float = Field(default=0.2, gt=0, lt=1)
    device: DeviceName = "cpu"

    @model_validator(mode="after")
    def _something_is_judged(self) -> CmdiadConfig:
        if 4 * self.border_px > self.size_px:
            raise ValueError(f"border_px: {self.border_px} of {self.size_px} px leave too little")
        return self

    @property
    def depth_side(self) -> int:
        """Side of the grid on which depth is described: 56 of 224."""
        return self.size_px // 4
