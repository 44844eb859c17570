"""A recipe's `[fit]` for CMDIAD, checked; what is wrong is told as the recipe says it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from loupe_models.settings import plain_reason, read_settings
from loupe_trainer.errors import RecipeError
from loupe_trainer.methods.cmdiad.config import KINDS, CmdiadConfig


def check_settings(given: Mapping[str, object]) -> CmdiadConfig:
    """Check a recipe's `[fit]`.

    Raises:
        RecipeError: An unknown setting, one that the encoder's kind does not take, or a value out
            of range.
    """
    try:
        return read_settings(CmdiadConfig, given)
    except ValidationError as error:
        raise RecipeError(_refusal(error.errors()[0])) from error


def _refusal(error: ErrorDetails) -> str:
    """Name key and reason; the library puts the kind of an encoder between the key's words."""
    words = [str(part) for part in error["loc"]]
    kinds = KINDS.get(words[0], {}) if words else {}
    if error["type"] == "union_tag_invalid":
        return f"fit.{words[0]}.kind: there is {_listed(kinds)}"
    kind = words.pop(1) if len(words) > 1 and words[1] in kinds else None
    reason = plain_reason(error)
    if error["type"] == "extra_forbidden":
        own = words[1] if len(words) == 2 else None  # a section further in is of one kind alone
        takers = [name for name, model in kinds.items() if own in model.model_fields]
        if takers:
            reason = f'kind = "{kind}" does not take it, {_listed(takers)} does; remove one of them'
    return f"{'.'.join(('fit', *words))}: {reason}"


def _listed(names: Mapping[str, object] | list[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)
