"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from loupe_trainer.errors import RecipeError
from loupe_trainer.methods.base import Method
from loupe_trainer.methods.efficientad import open_efficientad

METHODS: Mapping[str, Callable[[Mapping[str, object], int, Path], Method]] = {
    "efficientad": open_efficientad,
}


def get_method(name: str, config: Mapping[str, object], seed: int, folder: Path) -> Method:
    """Find a method and give it its settings.

    Args:
        name: As in the recipe.
        config: The recipe's `[fit]` section.
        seed: Of everything random.
        folder: What relative paths in the settings start from.

    Raises:
        RecipeError: No such method, or a setting it does not take.
    """
    opener = METHODS.get(name)
    if opener is None:
        raise RecipeError(f"method: no method {name!r}; there is {', '.join(sorted(METHODS))}")
    return opener(config, seed, folder)
