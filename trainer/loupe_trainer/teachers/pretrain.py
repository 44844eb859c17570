"""Make a teacher: distilled from a backbone where there is one, self-supervised where not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from loupe_trainer.backbones import open_backbone
from loupe_trainer.progress import Progress
from loupe_trainer.published_weights import Whose
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.corpus import Corpus, MixedCorpus, PictureCorpus, Rgb, open_corpus
from loupe_trainer.teachers.distil import distil
from loupe_trainer.teachers.selfsupervised import train_selfsupervised
from loupe_trainer.teachers.weights import (
    Origin,
    Teacher,
    kept_teacher,
    load_teacher,
    save_teacher,
)

TEACHER: Final = "teacher.safetensors"


def teacher_of_parts(
    named: Path | None, config: PretrainConfig, folder: Path,
    parts: Callable[[], Sequence[Rgb]], progress: Progress,
) -> Teacher:  # fmt: skip
    """Load the teacher that a recipe names, or train one on the parts, once a run.

    Args:
        named: Made by `loupe-trainer pretrain`; None trains one.
        config: Of that training.
        folder: Of the run's checkpoints, which keeps it.
        parts: Reads good ones; it learns from them and from what the config's corpus gives.
        progress: Shown.

    Raises:
        RunError: The checkpoint in `folder` is of another training.
        WeightsError: The teacher is missing, foreign or damaged.
    """
    if named is not None:
        return load_teacher(named)
    file = folder / TEACHER
    if file.exists():
        return load_teacher(file)
    own = PictureCorpus("the good parts", list(parts()))
    return pretrain(config, file, progress, MixedCorpus(own, open_corpus(config.corpus)))


def pretrain(
    config: PretrainConfig, out: Path, progress: Progress, corpus: Corpus | None = None
) -> Teacher:
    """Train a teacher and write it; one that is there and was made so already is kept.

    Args:
        config: The backbone if any, the schedule, the network's shape.
        out: The safetensors file to write; what was interrupted goes on from a file beside it.
        progress: Shown.
        corpus: Pictures to learn from; None opens the one the config names.

    Raises:
        RecipeError: A backbone without its weights.
        RunError: The checkpoint beside `out` is of another training.
        WeightsError: The weights are missing, foreign or damaged, or nobody says their licence; or
            something else is at `out`.
    """
    pictures = corpus or open_corpus(config.corpus)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    backbone, whose = None, Whose("self-supervised", "Apache-2.0", None)
    if config.backbone is not None:
        backbone = open_backbone(config.backbone, config.backbone_weights, config.licence)
        whose = backbone.whose
    origin = Origin(
        name=whose.name, licence=whose.licence, sha256=whose.sha256,
        corpus=pictures.name, steps=config.steps, seed=config.seed,
    )  # fmt: skip
    if made := kept_teacher(out, origin, config.sha256):
        return made
    if backbone is None:
        network = train_selfsupervised(config, pictures, checkpoint, progress)
    else:
        network = distil(backbone, config, pictures, checkpoint, progress)
    teacher = save_teacher(out, network, origin, config.sha256)
    checkpoint.unlink(missing_ok=True)
    return teacher
