"""Backbones by name: pretrained networks that a teacher can be distilled from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from loupe_trainer.backbones.base import Backbone
from loupe_trainer.backbones.squeezenet import load_squeezenet
from loupe_trainer.errors import RecipeError

BACKBONES: Mapping[str, Callable[[Path], Backbone]] = {"squeezenet": load_squeezenet}


def open_backbone(name: str, weights: Path) -> Backbone:
    """Load a backbone from a local file.

    Raises:
        RecipeError: No such backbone.
        WeightsError: The file is missing, foreign or damaged.
    """
    loader = BACKBONES.get(name)
    if loader is None:
        raise RecipeError(f"no backbone {name!r}; there is {', '.join(sorted(BACKBONES))}")
    return loader(weights)


__all__ = ["BACKBONES", "Backbone", "open_backbone"]
