"""The settings of teacher pretraining."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from loupe_models.checked import Checked
from loupe_trainer.compute import DeviceName
from loupe_trainer.recipe import MAX_SEED
from loupe_trainer.teachers.pdn import PdnShape, PdnSize

MAX_STEPS = 10_000_000
MAX_PICTURES = 10_000  # they are kept in memory: 2 GB at 256 x 256 pixels
DISTILLATION = {"steps": 60_000, "batch": 16, "lr": 1e-4}


class PretrainConfig(Checked):
    """How a teacher is made: distilled from a backbone, or with none at all.

    Distillation's schedule is the paper's (EfficientAD) where it is not given:
    60,000 steps of 16 pictures at 1e-4. That takes a GPU; hundreds of steps at 1e-3 make a teacher
    on a CPU.

    Attributes:
        backbone: None trains by self-supervision.
        backbone_weights: The backbone's file or folder.
        licence: SPDX name of the backbone's licence, where its weights do not say it.
        corpus: A folder of any pictures; None draws textures, which needs nothing.
        size: Of the patch description network, the paper's S or M.
        width: Multiplies the channels of every layer.
        input_px: Side of the pictures the teacher sees in distillation; the backbone sees twice
            that. Self-supervision looks at patches and has no use for it.
        n_pictures: How many pictures patches are cut from in self-supervision, or targets are
            measured on in distillation.
        batch: Pictures a step in distillation, patches a step in self-supervision.
    """

    backbone: Literal["hugging_face", "mobilenet", "squeezenet", "wide_resnet101_2"] | None = None
    backbone_weights: Path | None = None
    licence: str | None = Field(default=None, min_length=1)
    corpus: Path | None = None
    size: PdnSize = "S"
    width: float = Field(default=1.0, ge=0.05, le=2.0)
    steps: int = Field(default=1_500, ge=1, le=MAX_STEPS)
    batch: int = Field(default=64, ge=2, le=1024)
    lr: float = Field(default=2e-3, gt=0, le=0.1)
    weight_decay: float = Field(default=1e-5, ge=0, le=0.1)
    n_pictures: int = Field(default=256, ge=1, le=MAX_PICTURES)
    input_px: int = Field(default=256, ge=64, le=1024, multiple_of=32)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    device: DeviceName = "cpu"
    checkpoint_every: int = Field(default=500, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _schedule_of_the_kind(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("backbone"):
            return {**DISTILLATION, **given}
        return given

    @model_validator(mode="after")
    def _weights_are_a_backbones(self) -> PretrainConfig:
        if self.backbone is None and (self.backbone_weights or self.licence):
            raise ValueError("weights and their licence are a backbone's: name it with `backbone`")
        return self

    @property
    def resumed_with(self) -> dict[str, object]:
        """What an interrupted training must have in common with the one that continues it."""
        return self.model_dump(mode="json", exclude={"device", "checkpoint_every"})

    @property
    def sha256(self) -> str:
        """Of all that a finished teacher depends on, beside its origin.

        That knows a backbone by its weights' hash, wherever they lie.
        """
        corpus = None if self.corpus is None else str(self.corpus.resolve())
        told = self.resumed_with | {"backbone_weights": None, "corpus": corpus}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @property
    def shape(self) -> PdnShape:
        """The network's."""
        return PdnShape(self.size, self.width)

    def relative_to(self, folder: Path) -> PretrainConfig:
        """Give the same settings with paths that start from `folder` where they are relative."""
        paths = {"backbone_weights": self.backbone_weights, "corpus": self.corpus}
        absolute = {name: path and folder / path for name, path in paths.items()}
        return self.model_copy(update=absolute)
