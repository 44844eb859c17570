"""Which network learns what from whom, and what becomes of it in a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from loupe_trainer.compute import open_device
from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.methods.cmdiad.config import CmdiadConfig
from loupe_trainer.methods.cmdiad.distillation import Lesson, distil
from loupe_trainer.methods.cmdiad.encoders import Encoders
from loupe_trainer.methods.cmdiad.hallucination import (
    Direction,
    FeatureToFeature,
    FeatureToInput,
    FromFeatures,
    FromInput,
    Hallucination,
    InputToFeature,
    ThroughColour,
)
from loupe_trainer.methods.cmdiad.kinds import MAIN, OTHER, Modality
from loupe_trainer.methods.cmdiad.material import Material
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.normalise import ImageNetNormalise

FREE: Final = {"log_every", "checkpoint_every"}  # what a continued lesson may change
STREAM: Final[Mapping[Direction, int]] = {"depth_from_rgb": 1, "rgb_from_depth": 2}


@dataclass(frozen=True, slots=True)
class Teaching:
    """One run's lessons, of the frames for the banks."""

    config: CmdiadConfig
    seed: int
    material: Material
    encoders: Encoders
    run: RunFolder
    progress: Progress

    def taught(self, directions: Sequence[Direction]) -> Mapping[Direction, Hallucination]:
        """Teach some directions, one after the other; each goes on from its checkpoint."""
        done: dict[Direction, Hallucination] = {}
        first_step = 0
        for direction in directions:
            state = np.random.SeedSequence((self.seed, STREAM[direction])).generate_state(1)
            torch.manual_seed(int(state[0]))
            done[direction] = make_hallucination(
                self.config, direction, self._channels(), self.encoders.of("rgb")
            )
            lesson = self._lesson(direction, first_step)
            pairs = self.material.pairs(self.config.distillation.kind, direction)
            distil(done[direction].network, pairs, lesson, self.run, self.progress)
            first_step += lesson.n_steps(len(pairs))
        return done

    def _channels(self) -> dict[Modality, int]:
        features = self.material.features
        return {"rgb": features["rgb"].shape[-1], "depth": features["depth"].shape[-1]}

    def _lesson(self, direction: Direction, first_step: int) -> Lesson:
        config = self.config.distillation
        settings = config.model_dump(mode="json", exclude=FREE) | {
            "seed": self.seed, "n_frames": self.material.n_for_banks, "size_px": self.config.size_px
        }  # fmt: skip
        device = open_device(self.config.device)
        return Lesson(direction, config.rate(direction), config, self.seed, device, settings,
                      first_step)  # fmt: skip


def make_hallucination(
    config: CmdiadConfig, direction: Direction, channels: Mapping[Modality, int], encoder: Encoder
) -> Hallucination:
    """Make an untaught one; its weights come from torch's generator.

    Args:
        config: Says which kind.
        direction: Which modality speaks for which.
        channels: Of `rgb` and `depth` tokens.
        encoder: Of colour, that F2I paints for.
    """
    main, other = MAIN[direction], OTHER[direction]
    kind = config.distillation.kind
    if kind == "i2f":
        normalisation = ImageNetNormalise() if main == "rgb" else None
        return FromInput(InputToFeature(channels[other]), normalisation)
    if kind == "f2i":
        return ThroughColour(FeatureToInput(channels[main], config.size_px), encoder)
    paper = config.distillation.paper
    return FromFeatures(FeatureToFeature(channels[main], channels[other], gelu_output=paper))
