"""What `loupe-trainer pretrain` is asked for: a trained teacher, or a published one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from loupe_models.settings import read_settings
from loupe_trainer.errors import RecipeError
from loupe_trainer.places import require_file
from loupe_trainer.progress import Progress
from loupe_trainer.recipe import apply_settings, first_reason
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.convert import convert_teacher
from loupe_trainer.teachers.pretrain import pretrain
from loupe_trainer.teachers.weights import Teacher


def trained_teacher(
    to: Path, named: Mapping[str, object], settings: Mapping[str, str], progress: Progress
) -> Teacher:
    """Train a teacher, or take the one that the same settings made.

    Args:
        to: Its file.
        named: Settings with an option of their own.
        settings: The others.
        progress: Shown.

    Raises:
        RecipeError: A setting is unknown, or out of range.
        RunError: `to` cannot be written, or holds something else.
        WeightsError: The backbone's weights cannot be used.
    """
    require_file(to)
    document = dict(named)
    apply_settings(document, settings)
    try:
        config = read_settings(PretrainConfig, document)
    except ValidationError as error:
        raise RecipeError(first_reason(error, "pretrain")) from error
    return pretrain(config, to, progress)


def published_teacher(
    published: Path, to: Path, named: Mapping[str, object], settings: Mapping[str, str]
) -> Teacher:
    """Take a published teacher as it is.

    Args:
        published: Its file.
        to: Where Loupe's goes.
        named: As for a trained one; there may be none.
        settings: Its licence, at most.

    Raises:
        RecipeError: More is set than its licence.
        RunError: `to` cannot be written, or holds something else.
        WeightsError: The file cannot be used.
    """
    require_file(to)
    if named or set(settings) - {"licence"}:
        raise RecipeError(
            "--published takes a teacher as it is; --out and --set licence=NAME go with it"
        )
    return convert_teacher(published, to, settings.get("licence"))
