"""Backbones by name: pretrained networks that a teacher can be distilled from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loupe_trainer.backbones import hugging_face, mobilenet, squeezenet, wide_resnet
from loupe_trainer.backbones.base import Backbone
from loupe_trainer.errors import RecipeError


@dataclass(frozen=True, slots=True)
class BackboneKind:
    """One way to get a backbone.

    Attributes:
        what: In half a line.
        load: Takes the file or folder and, where that does not say it, the licence.
        fetch: What to fetch, from where, with which hash, and where to put it; takes that place,
            or None for a place of our choice.
    """

    what: str
    load: Callable[[Path, str | None], Backbone]
    fetch: Callable[[Path | None], str]


BACKBONES: Mapping[str, BackboneKind] = {
    "squeezenet": BackboneKind(
        "SqueezeNet 1.1, torchvision's .pth or an npz of the Caffe weights",
        squeezenet.load_squeezenet, squeezenet.fetch_squeezenet,
    ),
    "mobilenet": BackboneKind(
        "MobileNet 1.0, an npz of Keras' weights",
        mobilenet.load_mobilenet, mobilenet.fetch_mobilenet,
    ),
    "wide_resnet101_2": BackboneKind(
        "WideResNet-101-2, torchvision's .pth; what the paper distils",
        wide_resnet.load_wide_resnet, wide_resnet.fetch_wide_resnet,
    ),
    "hugging_face": BackboneKind(
        "a folder from the Hugging Face hub: ResNet, ConvNeXt, EfficientNet, Swin, ViT, DINOv2 …",
        hugging_face.load_hugging_face, hugging_face.fetch_hugging_face,
    ),
}  # fmt: skip


def open_backbone(name: str, weights: Path | None, licence: str | None = None) -> Backbone:
    """Load a backbone from where its weights lie.

    Args:
        name: One of `BACKBONES`.
        weights: Its file or folder.
        licence: SPDX name, for weights that do not say theirs.

    Raises:
        RecipeError: No such backbone, or no place is told.
        WeightsError: Missing, foreign or damaged weights, or nobody says their licence.
    """
    kind = BACKBONES.get(name)
    if kind is None:
        raise RecipeError(f"no backbone {name!r}; there is {', '.join(sorted(BACKBONES))}")
    if weights is None:
        raise RecipeError(
            f"{name} needs its weights: {kind.fetch(None)}, and name that place with --weights (in "
            f"a recipe: backbone_weights); without --backbone a teacher needs none"
        )
    if not weights.exists():
        raise RecipeError(f"{weights}: not there. To have {name}, {kind.fetch(weights)}")
    return kind.load(weights, licence)


__all__ = ["BACKBONES", "Backbone", "BackboneKind", "open_backbone"]
