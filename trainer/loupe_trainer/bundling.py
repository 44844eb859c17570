"""Everything a run has measured becomes one bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from loupe_models.bundle import Bundle, write_bundle
from loupe_models.manifest import (
    Backbone,
    Golden,
    Manifest,
    Mode,
    ModeManifest,
    Precision,
    Provenance,
    TensorSpec,
    Variant,
)
from loupe_models.threshold import Threshold, thin
from loupe_trainer.golden import GoldenFrame, write_golden
from loupe_trainer.half_variant import HalfVariant
from loupe_trainer.learn import graph_name
from loupe_trainer.recipe import Recipe
from loupe_trainer.run import code_version
from loupe_trainer.tolerance import FLOAT32, HALF
from loupe_trainer.views import View, Views


@dataclass(frozen=True, slots=True)
class Measured:
    """What was exported, and what was measured on it.

    Attributes:
        part_scores: One a good part of the threshold set, its highest frame score.
        parity: Largest errors against the network.
        half: The FP16 graph, or why there is none.
    """

    graph: Path
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    threshold: Threshold
    part_scores: Sequence[float]
    parity: Mapping[str, float]
    golden: Sequence[GoldenFrame]
    half: HalfVariant


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a bundle comes from."""

    recipe: Recipe
    data_sha256: str
    backbone: Backbone | None


def make_bundle(
    path: Path, measured: Mapping[Mode, Measured], views: Views, origin: Origin
) -> Bundle:
    """Write a bundle with each mode's reference graph, and its FP16 graph if that may be shipped.

    Args:
        path: Where it will be; must not exist.
        measured: By mode, the graph and its numbers.
        views: How each mode looks at frames.
        origin: Recipe, data and backbone.

    Raises:
        BundleError: The place is taken, or the bundle is over the size limits.
        GraphError: The graph breaks the graph contract.
    """
    golden: dict[Mode, tuple[Golden, ...]] = {}

    def fill(folder: Path) -> None:
        for mode, told in measured.items():
            shutil.copyfile(told.graph, folder / graph_name(mode))
            if told.half.graph is not None:
                shutil.copyfile(told.half.graph, folder / graph_name(mode, "fp16"))
            belt = views.modes[mode].belt_from_camera
            golden[mode] = tuple(
                write_golden(folder, f"{mode}-{i}", frame, belt)
                for i, frame in enumerate(told.golden)
            )

    def describe(files: Mapping[str, str]) -> Manifest:
        return Manifest(
            id=origin.recipe.name,
            method=origin.recipe.method,
            modes={
                mode: _mode(mode, told, views.modes[mode], golden[mode])
                for mode, told in measured.items()
            },
            files=dict(files),
            provenance=_provenance(origin),
        )

    return write_bundle(path, fill, describe)


def _mode(mode: Mode, measured: Measured, view: View, golden: tuple[Golden, ...]) -> ModeManifest:
    refused: dict[Precision, str] = {}
    if measured.half.refused:
        refused["fp16"] = measured.half.refused
    return ModeManifest(
        gate=view.gate,
        preprocess=view.preprocess,
        inputs=tuple(measured.inputs),
        outputs=tuple(measured.outputs),
        threshold=measured.threshold,
        calibration_scores=tuple(thin(measured.part_scores)),
        variants=_variants(mode, measured),
        refused=refused,
        golden=golden,
    )


def _variants(mode: Mode, measured: Measured) -> dict[Precision, Variant]:
    made: dict[Precision, Variant] = {
        "fp32": Variant(
            file=graph_name(mode), precision="fp32", tolerance=FLOAT32.of_unit,
            relative_tolerance=FLOAT32.of_score, parity=dict(measured.parity),
        )
    }  # fmt: skip
    if measured.half.graph is not None:
        # No threshold of its own: scores that moved by more than its tolerance were refused, and
        # a threshold is one of the scores.
        made["fp16"] = Variant(
            file=graph_name(mode, "fp16"), precision="fp16", tolerance=HALF.of_unit,
            relative_tolerance=HALF.of_score, parity=measured.half.parity,
        )  # fmt: skip
    return made


def _provenance(origin: Origin) -> Provenance:
    return Provenance(
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        code_version=code_version(),
        data_sha256=origin.data_sha256,
        config=public_config(origin.recipe),
        seed=origin.recipe.seed,
        backbone=origin.backbone,
    )


def public_config(recipe: Recipe) -> dict[str, object]:
    """Give the recipe as JSON holds it, less where the data lay: that is nobody else's business."""
    config: dict[str, object] = recipe.model_dump(mode="json")
    config["data"] = recipe.data.model_dump(mode="json", exclude={"path"})
    return config
