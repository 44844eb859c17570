"""One run, from frames to detectors: encode once, distil, fill the banks, fit the fusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from loupe_models.manifest import Mode
from loupe_trainer.compute import open_device, unplace
from loupe_trainer.methods.cmdiad.bank import MemoryBank
from loupe_trainer.methods.cmdiad.banks import Filling, deviation_of
from loupe_trainer.methods.cmdiad.config import CmdiadConfig
from loupe_trainer.methods.cmdiad.detector import (
    CmdiadDetector,
    DepthDetector,
    RgbdDetector,
    RgbDetector,
)
from loupe_trainer.methods.cmdiad.encoders import Encoders
from loupe_trainer.methods.cmdiad.features import kept_features
from loupe_trainer.methods.cmdiad.hallucination import Direction, Hallucination
from loupe_trainer.methods.cmdiad.judge import Judge, fit_fusion
from loupe_trainer.methods.cmdiad.kinds import (
    MAIN,
    Modality,
    TokenKind,
    directions_of,
    kinds_of,
    modalities_of,
)
from loupe_trainer.methods.cmdiad.material import Material
from loupe_trainer.methods.cmdiad.steps import mode_tensors
from loupe_trainer.methods.cmdiad.teaching import Teaching
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder
from loupe_trainer.weights_hash import weights_sha256

Taught = Mapping[Direction, Hallucination]
Banks = Mapping[TokenKind, MemoryBank]


@dataclass(frozen=True, slots=True)
class Learning:
    """What a run works with, beside its frames."""

    config: CmdiadConfig
    seed: int
    encoders: Encoders
    run: RunFolder
    progress: Progress

    def detectors(self, frames: Material, modes: Sequence[Mode]) -> Mapping[Mode, CmdiadDetector]:
        """Learn a detector for each mode; every step goes on where a killed run stopped."""
        seen = self._encoded(frames, modes)
        taught = self._taught(seen, modes)
        imagined = self._imagined(seen, taught)
        banks = self._filled(imagined, modes)
        made = {mode: self._detector(mode, imagined, banks, taught) for mode in modes}
        return {mode: unplace(detector).eval() for mode, detector in made.items()}

    def _encoded(self, material: Material, modes: Sequence[Mode]) -> Material:
        """Run each frozen encoder, once a frame."""
        for modality in modalities_of(self.config, modes):
            encoder = self.encoders.of(modality)
            describe = self._seeing(modality, material)
            material = self._with(material, modality, weights_sha256(encoder), describe)
        return material

    def _taught(self, material: Material, modes: Sequence[Mode]) -> Taught:
        teaching = Teaching(
            self.config, self.seed, material, self.encoders, self.run, self.progress
        )
        return teaching.taught(directions_of(self.config, modes))

    def _imagined(self, material: Material, taught: Taught) -> Material:
        """Let each hallucination speak, once a frame."""
        for direction, hallucination in taught.items():
            key = weights_sha256(self.encoders.of(MAIN[direction]), hallucination)
            describe = self._imagining(direction, hallucination, material)
            material = self._with(material, direction, key, describe)
        return material

    def _filled(self, material: Material, modes: Sequence[Mode]) -> Banks:
        paper, n = self.config.distillation.paper, material.n_for_banks
        deviation = deviation_of(material.features["rgb"], n) if paper else None
        filling = Filling(self.config.bank, n, self.seed, self.run, self.progress, deviation)
        kinds = dict.fromkeys(kind for mode in modes for kind in kinds_of(self.config, mode))
        return {kind: filling.fill(kind, material.features[kind]) for kind in kinds}

    def _detector(
        self, mode: Mode, material: Material, banks: Banks, taught: Taught
    ) -> CmdiadDetector:
        kinds = kinds_of(self.config, mode)
        paper = self.config.distillation.paper
        judge = Judge(
            [banks[kind] for kind in kinds], self.config.size_px, self.config.border_px, paper=paper
        )
        shown = self.progress.track(material.for_fusion, f"fusion of {mode}")
        tokens = ([material.tokens(kind, np.array([i])) for kind in kinds] for i in shown)
        fit_fusion(judge, tokens)
        depth = self.encoders.depth
        if mode == "rgb":
            return RgbDetector(self.encoders.of("rgb"), taught.get("depth_from_rgb"), judge)
        if depth is None:
            raise TypeError(f"nobody asked for an encoder of depth, which {mode} needs")
        if mode == "rgbd":
            return RgbdDetector(self.encoders.of("rgb"), depth, judge)
        imagined = taught.get("rgb_from_depth")
        return DepthDetector(depth, imagined, judge, mode_tensors(self.config, mode))

    def _with(
        self, material: Material, kind: TokenKind, key: str, describe: Callable[[int], Tensor]
    ) -> Material:
        folder = self.run.checkpoints / "features" / kind
        features = kept_features(folder, key, len(material.order), describe, self.progress)
        return replace(material, features={**material.features, kind: features})

    def _seeing(self, modality: Modality, material: Material) -> Callable[[int], Tensor]:
        device = open_device(self.config.device)
        encoder = self.encoders.of(modality).to(device)

        def see(frame: int) -> Tensor:
            inputs = self.encoders.inputs(modality, material, np.array([frame]))
            tokens: Tensor = encoder(*(tensor.to(device) for tensor in inputs))
            return tokens.cpu()

        return see

    def _imagining(
        self, direction: Direction, hallucination: Hallucination, material: Material
    ) -> Callable[[int], Tensor]:
        device = open_device(self.config.device)
        hallucination.to(device)
        picture = material.colour if direction == "depth_from_rgb" else material.cloud

        def imagine(frame: int) -> Tensor:
            one = np.array([frame])
            tokens = material.tokens(MAIN[direction], one).to(device)
            looks = self.config.distillation.kind == "i2f"
            imagined: Tensor = hallucination(tokens, picture(one).to(device) if looks else None)
            return imagined.cpu()

        return imagine
