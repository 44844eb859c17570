"""Make a teacher: distilled from a backbone where there is one, self-supervised where not."""

from __future__ import annotations

from pathlib import Path

from loupe_trainer.backbones import open_backbone
from loupe_trainer.errors import RecipeError
from loupe_trainer.progress import Progress
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.corpus import Corpus, open_corpus
from loupe_trainer.teachers.distil import distil
from loupe_trainer.teachers.selfsupervised import train_selfsupervised
from loupe_trainer.teachers.weights import Origin, Teacher, save_teacher


def pretrain(
    config: PretrainConfig, out: Path, progress: Progress, corpus: Corpus | None = None
) -> Teacher:
    """Train a teacher and write it.

    Args:
        config: The backbone if any, the schedule, the network's shape.
        out: The safetensors file to write.
        progress: Shown.
        corpus: Pictures to learn from; None opens the one the config names.

    Raises:
        RecipeError: A backbone without its weights.
        WeightsError: The weights are missing or damaged.
    """
    pictures = corpus or open_corpus(config.corpus)
    if config.backbone is None:
        network = train_selfsupervised(config, pictures, progress)
        origin = Origin(
            name="self-supervised", licence="Apache-2.0", corpus=pictures.name,
            steps=config.steps, seed=config.seed,
        )  # fmt: skip
        return save_teacher(out, network, origin)
    if config.backbone_weights is None:
        raise RecipeError(
            f"backbone_weights: {config.backbone} needs the file of its weights; name it, or leave "
            f"`backbone` out to train without one"
        )
    backbone = open_backbone(config.backbone, config.backbone_weights)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    network = distil(backbone, config, pictures, checkpoint, progress)
    origin = Origin(
        name=backbone.name, licence=backbone.licence, sha256=backbone.sha256,
        corpus=pictures.name, steps=config.steps, seed=config.seed,
    )  # fmt: skip
    teacher = save_teacher(out, network, origin)
    checkpoint.unlink(missing_ok=True)
    return teacher
