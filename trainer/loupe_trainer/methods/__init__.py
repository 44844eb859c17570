"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loupe_models.manifest import Mode
from loupe_trainer.errors import RecipeError
from loupe_trainer.methods.base import Method
from loupe_trainer.methods.cmdiad import open_cmdiad
from loupe_trainer.methods.efficientad import open_efficientad

Modes = Sequence[Mode]
METHODS: Mapping[str, Callable[[Mapping[str, object], int, Path, Modes], Method]] = {
    "cmdiad": open_cmdiad,
    "efficientad": open_efficientad,
}


def get_method(
    name: str, config: Mapping[str, object], seed: int, folder: Path, modes: Modes
) -> Method:
    """Find a method and give it its settings.

    Args:
        name: As in the recipe.
        config: The recipe's `[fit]` section.
        seed: Of everything random.
        folder: What relative paths in the settings start from.
        modes: What it is to serve.

    Raises:
        RecipeError: No such method, a setting it does not take, or a mode it does not serve.
    """
    opener = METHODS.get(name)
    if opener is None:
        raise RecipeError(f"method: no method {name!r}; there is {', '.join(sorted(METHODS))}")
    method = opener(config, seed, folder, modes)
    if unserved := [mode for mode in modes if mode not in method.modes]:
        raise RecipeError(f"modes: {name} serves {', '.join(method.modes)}, not {unserved[0]!r}")
    return method
