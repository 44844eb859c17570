"""Every category of a data set: one run each, and how they did beside what is published."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from loupe_calibration.errors import LoupeError
from loupe_models.atomic import write_text
from loupe_models.bundle import load_bundle
from loupe_models.manifest import Mode
from loupe_trainer.benchmark_summary import NOTHING, Row, Summary, summary_document
from loupe_trainer.bundling import public_config
from loupe_trainer.data.layout import categories, reader_of
from loupe_trainer.errors import DataError, RecipeError, RunError, WeightsError
from loupe_trainer.places import require_folder
from loupe_trainer.progress import Progress
from loupe_trainer.published_results import Figures, Published, find_published
from loupe_trainer.recipe import Recipe, load_recipe
from loupe_trainer.run import RunFolder
from loupe_trainer.train import place_of, train

SUMMARY = "summary.json"
Tell = Callable[[str], None]


def train_all(
    recipe_file: Path, out: Path | None, progress: Progress, tell: Tell,
    place: Path | None = None, settings: Mapping[str, str] | None = None,
) -> tuple[Summary, Path]:  # fmt: skip
    """Carry out a recipe on every category of a folder.

    A category whose run is complete is read back. One that fails is told at once and in its row,
    and the others go on; what would fail in each of them alike, a recipe or a teacher's weights
    that cannot be used, ends it all.

    Args:
        recipe_file: TOML. A category's bundle is called after the recipe and the category.
        out: Takes one run folder a category, and `summary.json`; None is `runs/<name>`.
        progress: Shown all along.
        tell: Takes a line as each category begins, and one where it fails.
        place: The data set's folder, instead of the recipe's `data.path`.
        settings: Dotted keys that win over the recipe.

    Returns:
        What came of it, and the folder that it is in.

    Raises:
        DataError: Not a folder of categories.
        RecipeError: The recipe cannot be used.
        WeightsError: The teacher's weights cannot be used.
    """
    recipe = load_recipe(recipe_file, settings)
    found = categories(place_of(recipe, recipe_file, place))
    table = _table(recipe, found)
    folder = out or Path("runs") / recipe.name
    require_folder(folder)
    rows = []
    for i, (category, where) in enumerate(found.items(), 1):
        tell(f"[{i}/{len(found)}] {category}")
        named = {**(settings or {}), "name": json.dumps(f"{recipe.name}-{category}")}
        try:
            row = _train_one(recipe_file, folder / category, progress, where, named)
        except (RecipeError, WeightsError):
            raise
        except LoupeError as error:
            tell(f"{category}: {error}")
            row = Row(category, error=str(error), exit_status=error.exit_status)
        rows.append(replace(row, published=table.rows.get(category, NOTHING)) if table else row)
    absent = [name for name in table.names if name not in found] if table else []
    summary = Summary(recipe.name, recipe.method, recipe.mode, rows, table, absent)
    write_text(folder / SUMMARY, json.dumps(summary_document(summary), indent=1) + "\n")
    return summary, folder


def _train_one(
    recipe_file: Path, out: Path, progress: Progress, place: Path, settings: Mapping[str, str]
) -> Row:
    run = RunFolder(out)
    if not _is_complete(run, load_recipe(recipe_file, settings)):
        train(recipe_file, out, progress, place, settings)
    return _row(run, out.name)


def _table(recipe: Recipe, found: Mapping[str, Path]) -> Published | None:
    """Look at the categories as they lie there; VisA's table alone names some that may not."""
    reader = recipe.data.reader
    there = next((folder for folder in found.values() if folder.is_dir()), None)
    if reader == "auto":
        reader = reader_of(there) if there else "visa"
    return find_published(reader, recipe.mode, found)


def _is_complete(run: RunFolder, recipe: Recipe) -> bool:
    """Whether the last thing that a run of this recipe writes is there."""
    last = (run.bundle / "manifest.json", run.evaluation / "report.html")
    return all(f.is_file() for f in last) and run.read().get("config") == public_config(recipe)


class _Metrics(BaseModel):
    """What is read of `metrics.json`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    mode: Mode
    image_auroc: float | None
    au_pro_30: float | None
    n_good: int
    n_defect: int
    n_unknown: int


def _row(run: RunFolder, category: str) -> Row:
    file = run.evaluation / "metrics.json"
    if not file.is_file():
        raise DataError(f"{category}: learnt, but there is nothing to test on; extract test/ too")
    try:
        metrics = _Metrics.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise RunError(f"{file}: damaged; delete {run.evaluation} and train again") from error
    return Row(
        category,
        measured=Figures(metrics.image_auroc, metrics.au_pro_30),
        false_reject_rate=load_bundle(run.bundle).mode(metrics.mode).threshold.false_reject_rate,
        n_good=metrics.n_good,
        n_defect=metrics.n_defect,
        n_unknown=metrics.n_unknown,
    )
