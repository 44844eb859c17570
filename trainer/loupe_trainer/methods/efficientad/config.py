"""The settings of EfficientAD: a recipe's `[fit]` section."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from loupe_models.checked import Checked
from loupe_trainer.compute import DeviceName
from loupe_trainer.teachers.config import MAX_PICTURES, MAX_STEPS, PretrainConfig


class EfficientAdConfig(Checked):
    """How EfficientAD is trained; the defaults are the paper's.

    Attributes:
        width_px: Of the pictures that are inspected, a multiple of 32 from 128 up.
        height_px: Likewise.
        tile_px: Side of the square tiles that the networks see, likewise a multiple of 32 from 128
            up; None shows them the picture whole.
        roi: A mask of the gate's region at any size, white where to inspect; None inspects all of
            it. Relative to the recipe.
        levelled: Whether every picture is brought to one mean brightness first, inside the graph,
            so that another exposure time or a paler lamp changes nothing.
        mirrored: Whether every picture is continued beyond its edges by its mirror image, inside
            the graph, so that the outermost 16 px are inspected too.
        teacher: Made by `loupe-trainer pretrain`; the student takes its size and width. None
            trains one on the good parts themselves and on textures, as `pretrain` says.
        pretrain: Settings of that training.
        steps: Optimiser steps. A short schedule wants a higher `lr`.
        batch: Pictures a step; the hard-feature quantile is taken of each by itself.
        lr: Adam's; a tenth of it after `decay_from`.
        decay_from: Share of the steps after which the rate falls to a tenth.
        shared_stem: Whether the student takes the teacher's first two layers as they are, rather
            than learning its own. Learns several times faster and computes them once; see
            `method.md` for what that costs.
        hard_quantile: Which share of the squared differences the student is not asked to mend.
        global_weight: Share of the autoencoder's map in the anomaly map. An autoencoder that a
            short schedule leaves untaught adds noise; give it less then.
        top_share: Share of the inspected pixels, the highest of the map, whose mean is the image
            score. 0 is the paper's, the single highest; a defect larger than a spot stands out
            more clearly from the noise of good parts with a few hundredths.
        penalty: Whether the student is kept from imitating the teacher on foreign pictures.
        penalty_corpus: A folder of any photographs; None draws textures, which needs nothing.
        n_penalty_pictures: How many of them are kept in memory.
        cache_mb: Memory for what frozen layers say of the training pictures; what does not fit
            is computed again each time.
        log_every: Steps between lines of `metrics.jsonl`.
        checkpoint_every: Steps between checkpoints.
    """

    width_px: int = Field(default=256, ge=1, le=4096)
    height_px: int = Field(default=256, ge=1, le=4096)
    tile_px: int | None = Field(default=None, ge=1, le=4096)
    roi: Path | None = None
    levelled: bool = False
    mirrored: bool = False
    teacher: Path | None = None
    pretrain: PretrainConfig = PretrainConfig()
    steps: int = Field(default=70_000, ge=1, le=MAX_STEPS)
    batch: int = Field(default=1, ge=1, le=64)
    lr: float = Field(default=1e-4, gt=0, le=0.1)
    weight_decay: float = Field(default=1e-5, ge=0, le=0.1)
    decay_from: float = Field(default=0.95, gt=0, le=1)
    shared_stem: bool = False
    hard_quantile: float = Field(default=0.999, ge=0, lt=1)
    global_weight: float = Field(default=0.5, ge=0, le=1)
    top_share: float = Field(default=0, ge=0, le=1)
    penalty: bool = True
    penalty_corpus: Path | None = None
    n_penalty_pictures: int = Field(default=256, ge=1, le=MAX_PICTURES)
    device: DeviceName = "cpu"
    cache_mb: int = Field(default=2048, ge=0)
    log_every: int = Field(default=50, ge=1)
    checkpoint_every: int = Field(default=500, ge=1)
