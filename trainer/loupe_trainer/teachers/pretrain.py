"""Make a teacher: distilled from a backbone where there is one, self-supervised where not."""

from __future__ import annotations

from pathlib import Path

from loupe_trainer.backbones import open_backbone
from loupe_trainer.progress import Progress
from loupe_trainer.published_weights import Whose
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
        out: The safetensors file to write; what was interrupted goes on from a file beside it.
        progress: Shown.
        corpus: Pictures to learn from; None opens the one the config names.

    Raises:
        RecipeError: A backbone without its weights.
        RunError: The checkpoint beside `out` is of another training.
        WeightsError: The weights are missing, foreign or damaged, or nobody says their licence.
    """
    pictures = corpus or open_corpus(config.corpus)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    if config.backbone is None:
        network = train_selfsupervised(config, pictures, checkpoint, progress)
        whose = Whose("self-supervised", "Apache-2.0", None)
    else:
        backbone = open_backbone(config.backbone, config.backbone_weights, config.licence)
        network = distil(backbone, config, pictures, checkpoint, progress)
        whose = backbone.whose
    origin = Origin(
        name=whose.name, licence=whose.licence, sha256=whose.sha256,
        corpus=pictures.name, steps=config.steps, seed=config.seed,
    )  # fmt: skip
    teacher = save_teacher(out, network, origin)
    checkpoint.unlink(missing_ok=True)
    return teacher
