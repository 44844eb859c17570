"""CMDIAD as a method: taught by colour and depth, running on one of them or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from loupe_models.errors import ThresholdError
from loupe_models.manifest import Backbone, Mode
from loupe_models.preprocess import PreprocessSpec
from loupe_trainer.errors import RecipeError
from loupe_trainer.methods.base import Detector, Samples
from loupe_trainer.methods.cmdiad.config import CmdiadConfig
from loupe_trainer.methods.cmdiad.detector import CmdiadDetector
from loupe_trainer.methods.cmdiad.encoders import Opening
from loupe_trainer.methods.cmdiad.features import tensors_of
from loupe_trainer.methods.cmdiad.judge import fit_scales
from loupe_trainer.methods.cmdiad.kinds import modalities_of
from loupe_trainer.methods.cmdiad.learning import Learning
from loupe_trainer.methods.cmdiad.material import divide
from loupe_trainer.methods.cmdiad.settings import check_settings
from loupe_trainer.methods.cmdiad.steps import learnt_tensors, mode_tensors, preprocessing
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder


class Cmdiad:
    """Learns from good parts in colour and depth; serves either alone, or both."""

    name = "cmdiad"
    modes: tuple[Mode, ...] = ("rgb", "depth", "rgbd")

    def __init__(
        self, config: CmdiadConfig, seed: int, folder: Path, modes: Sequence[Mode]
    ) -> None:
        if config.distillation.kind == "f2i" and "rgb" in modes:
            raise RecipeError(
                "fit.distillation.kind: f2i cannot serve mode rgb: the cloud that it would "
                "generate has to be sampled and grouped before the depth encoder, and no graph "
                'does that; take "f2f" or "i2f", or leave rgb out of modes'
            )
        self._config, self._seed, self._folder = config, seed, folder
        self._asked = tuple(modes)
        self._backbone: Backbone | None = None

    @property
    def backbone(self) -> Backbone | None:
        """Whose weights the encoders bring; None for encoders trained on the parts alone."""
        return self._backbone

    def preprocess(self, mode: Mode) -> PreprocessSpec:
        """Give a mode's steps; all modes share them, as far as they need them."""
        return preprocessing(self._config, mode_tensors(self._config, mode))

    def learnt_from(self) -> PreprocessSpec:
        """Give what is learnt from: distillation takes both modalities, whatever is served."""
        return preprocessing(self._config, learnt_tensors(self._config, self._asked))

    def fit(
        self,
        samples: Samples,
        held_out: Samples,  # noqa: ARG002
        run: RunFolder,
        progress: Progress,
    ) -> Mapping[Mode, Detector]:
        """Learn; see `Method.fit`."""
        frames = divide(samples, self._config.fusion_share, self._seed)
        wanted = modalities_of(self._config, self._asked)
        opening = Opening(self._config, self._seed, self._folder, frames, run, progress)
        encoders = opening.encoders(wanted)
        self._backbone = encoders.backbone
        learning = Learning(self._config, self._seed, encoders, run, progress)
        return learning.detectors(frames, self._asked)

    def normalise(self, detectors: Mapping[Mode, Detector], samples: Samples) -> None:
        """Take the scale of map and score from held-out good frames."""
        for mode, detector in detectors.items():
            if not isinstance(detector, CmdiadDetector):
                raise TypeError(f"not a detector of CMDIAD: {type(detector).__name__}")
            if not len(samples):
                raise ThresholdError(
                    "no good part is held out for the scale of the map; collect at least 10 more "
                    "good parts, or raise [split] quantiles"
                )
            names = self.preprocess(mode).tensors
            fit_scales(detector.judge, _tokens(detector, names, samples))


@torch.no_grad()
def _tokens(
    detector: CmdiadDetector, names: Sequence[str], samples: Samples
) -> Iterator[tuple[Tensor, ...]]:
    for sample in samples:
        yield detector.kinds(*tensors_of(sample, names, torch.device("cpu")))


def open_cmdiad(
    config: Mapping[str, object], seed: int, folder: Path, modes: Sequence[Mode]
) -> Cmdiad:
    """Make the method from a recipe's `[fit]`.

    Raises:
        RecipeError: An unknown setting, a value out of range, or a mode that cannot be served so.
    """
    return Cmdiad(check_settings(config), seed, folder, modes)
