"""EfficientAD as a method: fit, then fix the map's scale."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from loupe_models.errors import ThresholdError
from loupe_models.manifest import Backbone, Mode
from loupe_models.preprocess import Crop, PreprocessSpec, Resize
from loupe_models.settings import plain_reason, read_settings
from loupe_trainer.compute import open_device, place, unplace
from loupe_trainer.errors import RecipeError
from loupe_trainer.methods.base import Detector, Samples
from loupe_trainer.methods.efficientad.area import MAP_BORDER, InspectedArea, read_roi
from loupe_trainer.methods.efficientad.autoencoder import (
    Autoencoder,
    check_input_size,
    check_side,
)
from loupe_trainer.methods.efficientad.config import EfficientAdConfig
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector, fold_statistics
from loupe_trainer.methods.efficientad.front import make_foreign_front, make_front, pass_front
from loupe_trainer.methods.efficientad.frozen import channel_statistics, freeze
from loupe_trainer.methods.efficientad.look import EarlyLook, early_look
from loupe_trainer.methods.efficientad.pictures import (
    Rgb,
    StepSource,
    draw_foreign,
    stack_samples,
)
from loupe_trainer.methods.efficientad.tiling import open_tiling
from loupe_trainer.methods.efficientad.training import Networks, Schedule, train
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.corpus import open_corpus
from loupe_trainer.teachers.pdn import initialise, student_network
from loupe_trainer.teachers.pretrain import teacher_of_parts
from loupe_trainer.teachers.weights import Teacher


class EfficientAd:
    """Learns from good colour pictures."""

    name = "efficientad"
    modes: tuple[Mode, ...] = ("rgb",)

    def __init__(self, config: EfficientAdConfig, seed: int, folder: Path) -> None:
        size_hw = (config.height_px, config.width_px)
        check_input_size(*size_hw)
        if config.tile_px is not None:
            check_side("tile_px", config.tile_px)
            open_tiling(size_hw, config.tile_px)
        self._roi = None if config.roi is None else read_roi(folder / config.roi)
        self._config, self._seed, self._folder = config, seed, folder
        self._area(size_hw)
        self._teacher: Teacher | None = None

    @property
    def backbone(self) -> Backbone | None:
        """Whose weights the teacher learnt from; None for a self-supervised one."""
        return None if self._teacher is None else self._teacher.backbone

    def preprocess(self, mode: Mode) -> PreprocessSpec:  # noqa: ARG002
        """Cut out the gate's region and resize it to the networks' input."""
        resize = Resize(width_px=self._config.width_px, height_px=self._config.height_px)
        return PreprocessSpec(steps=(Crop(), resize))

    def learnt_from(self) -> None:
        """Nothing but what the mode itself takes."""

    def fit(
        self, samples: Samples, held_out: Samples, run: RunFolder, progress: Progress
    ) -> Mapping[Mode, Detector]:
        """Train student and autoencoder; see `Method.fit`."""
        pictures = stack_samples(samples)
        size_hw = (pictures.shape[1], pictures.shape[2])
        check_input_size(*size_hw)
        front = make_front(self._config, size_hw)
        parts = pass_front(front, pictures)
        tiling = open_tiling((parts.shape[1], parts.shape[2]), self._config.tile_px)
        windows = parts if tiling is None else tiling.cut_pictures(parts)
        self._teacher = self._open_teacher(windows, run, progress)
        networks = self._networks(self._teacher, windows, progress)
        detector = EfficientAdDetector(
            networks.teacher, networks.student, networks.autoencoder,
            self._config.global_weight, self._area(size_hw), tiling,
        )  # fmt: skip
        detector.front = front
        place(detector, open_device(self._config.device))
        look = early_look(detector, held_out, run.looks, self._config.steps)
        self._train(networks, windows, self._schedule(run, windows, look), progress)
        return {"rgb": unplace(detector).eval()}

    def normalise(self, detectors: Mapping[Mode, Detector], samples: Samples) -> None:
        """Take the quantiles of both raw maps over what is inspected of held-out good pictures."""
        detector = detectors["rgb"]
        if not isinstance(detector, EfficientAdDetector):
            raise TypeError(f"not a detector of EfficientAD: {type(detector).__name__}")
        if not len(samples):
            raise ThresholdError(
                "no good part is held out for the map's quantiles; collect at least 10 more "
                "good parts, or raise [split] quantiles"
            )
        local_maps, global_maps = [], []
        with torch.inference_mode():
            for sample in samples:
                rgb = torch.from_numpy(np.asarray(sample["rgb"], np.uint8))
                local_map, global_map = detector.raw_maps(rgb)
                local_maps.append(detector.area.pixels(local_map).numpy())
                global_maps.append(detector.area.pixels(global_map).numpy())
        detector.local_scale.fit(local_maps, "student-teacher")
        detector.global_scale.fit(global_maps, "student-autoencoder")

    def _train(
        self, networks: Networks, windows: Rgb, schedule: Schedule, progress: Progress
    ) -> None:
        foreign = self._foreign(windows)
        frozen = freeze(
            networks.teacher,
            windows,
            foreign,
            shared_stem=networks.have_shared_stem,
            cache_mb=self._config.cache_mb,
        )
        n_foreign = 0 if foreign is None else len(foreign)
        source = StepSource(windows, n_foreign, self._config.batch, self._seed)
        train(networks, source, frozen, schedule, progress)

    def _open_teacher(self, parts: Rgb, run: RunFolder, progress: Progress) -> Teacher:
        """Load the teacher the recipe names, or train one on the parts, once a run."""
        config, folder = self._config, self._folder
        named = None if config.teacher is None else folder / config.teacher
        pretraining = config.pretrain.relative_to(folder)
        return teacher_of_parts(named, pretraining, run.checkpoints, lambda: list(parts), progress)

    def _networks(self, teacher: Teacher, parts: Rgb, progress: Progress) -> Networks:
        device = open_device(self._config.device)
        frozen = place(copy.deepcopy(teacher.network), device)
        mean, std = channel_statistics(frozen, parts, progress)
        fold_statistics(frozen, mean.to(device), std.to(device))
        torch.manual_seed(self._seed)
        shape = teacher.network.shape
        student = place(initialise(student_network(shape)), device)
        if self._config.shared_stem:
            student.stem = frozen.stem
        autoencoder = Autoencoder(shape, (parts.shape[1], parts.shape[2]))
        return Networks(frozen, student, place(autoencoder, device))

    def _foreign(self, parts: Rgb) -> Rgb | None:
        config = self._config
        if not config.penalty:
            return None
        folder = config.penalty_corpus and self._folder / config.penalty_corpus
        size_hw = (parts.shape[1], parts.shape[2])
        corpus, n = open_corpus(folder), config.n_penalty_pictures
        foreign = draw_foreign(corpus, n, size_hw, self._seed)
        return pass_front(make_foreign_front(config), foreign)

    def _area(self, size_hw: tuple[int, int]) -> InspectedArea:
        config = self._config
        return InspectedArea(
            size_hw, self._roi, config.top_share, border=0 if config.mirrored else MAP_BORDER
        )

    def _schedule(self, run: RunFolder, windows: Rgb, look: EarlyLook | None) -> Schedule:
        """Say what a checkpoint must have in common with this run to be continued."""
        free = {
            "log_every",
            "checkpoint_every",
            "cache_mb",
            "device",
            "pretrain",
            "teacher",
            "global_weight",
            "roi",
            "top_share",
        }
        settings = self._config.model_dump(mode="json", exclude=free) | {
            "seed": self._seed,
            "n_parts": len(windows),
            "teacher_sha256": self._teacher.sha256 if self._teacher else None,
        }
        return Schedule(self._config, self._seed, run, settings, look)


def open_efficientad(
    config: Mapping[str, object],
    seed: int,
    folder: Path,
    modes: Sequence[Mode],  # noqa: ARG001
) -> EfficientAd:
    """Make the method from a recipe's `[fit]`; it serves colour alone.

    Raises:
        RecipeError: An unknown setting, or a value out of range.
    """
    try:
        checked = read_settings(EfficientAdConfig, config)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(("fit", *(str(part) for part in first["loc"])))
        raise RecipeError(f"{key}: {plain_reason(first)}") from error
    return EfficientAd(checked, seed, folder)
