"""Every category of a data set: one run each, and how they did beside what is published."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from loupe_calibration.errors import LoupeError
from loupe_models.atomic import write_text
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.manifest import Mode
from loupe_trainer.benchmark_summary import NOTHING, Row, Summary, summary_document
from loupe_trainer.bundling import public_config
from loupe_trainer.data.layout import categories, reader_of
from loupe_trainer.errors import DataError, RecipeError, RunError, WeightsError
from loupe_trainer.places import require_folder
from loupe_trainer.plan import place_of
from loupe_trainer.progress import Progress
from loupe_trainer.published_results import Figures, Published, find_published
from loupe_trainer.recipe import Recipe, load_recipe
from loupe_trainer.run import RunFolder
from loupe_trainer.summary import modes_of
from loupe_trainer.train import train

SUMMARY = "summary.json"
Tell = Callable[[str], None]


def train_all(
    recipe_file: Path, out: Path | None, progress: Progress, tell: Tell,
    place: Path | None = None, settings: Mapping[str, str] | None = None,
) -> tuple[Sequence[Summary], Path]:  # fmt: skip
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
        What came of it in each mode, and the folder that it is in.

    Raises:
        DataError: Not a folder of categories.
        RecipeError: The recipe cannot be used.
        WeightsError: The teacher's weights cannot be used.
    """
    recipe = load_recipe(recipe_file, settings)
    found = categories(place_of(recipe, recipe_file, place))
    tables = {mode: _table(recipe, mode, found) for mode in recipe.modes}
    folder = out or Path("runs") / recipe.name
    require_folder(folder)
    rows: dict[Mode, list[Row]] = {mode: [] for mode in recipe.modes}
    for i, (category, where) in enumerate(found.items(), 1):
        tell(f"[{i}/{len(found)}] {category}")
        named = {**(settings or {}), "name": json.dumps(f"{recipe.name}-{category}")}
        try:
            done = _train_one(recipe_file, folder / category, progress, where, named)
        except (RecipeError, WeightsError):
            raise
        except LoupeError as error:
            tell(f"{category}: {error}")
            failed = Row(category, error=str(error), exit_status=error.exit_status)
            done = dict.fromkeys(recipe.modes, failed)
        for mode in recipe.modes:
            rows[mode].append(_beside(done[mode], tables[mode]))
    summaries = [_summary(recipe, mode, rows[mode], tables[mode], found) for mode in recipe.modes]
    write_text(folder / SUMMARY, json.dumps(summary_document(summaries), indent=1) + "\n")
    return summaries, folder


def _beside(row: Row, table: Published | None) -> Row:
    return row if table is None else replace(row, published=table.rows.get(row.category, NOTHING))


def _summary(
    recipe: Recipe, mode: Mode, rows: Sequence[Row], table: Published | None,
    found: Mapping[str, Path],
) -> Summary:  # fmt: skip
    absent = [name for name in table.names if name not in found] if table else []
    return Summary(recipe.name, recipe.method, mode, rows, table, absent)


def _train_one(
    recipe_file: Path, out: Path, progress: Progress, place: Path, settings: Mapping[str, str]
) -> Mapping[Mode, Row]:
    run = RunFolder(out)
    if not _is_complete(run, load_recipe(recipe_file, settings)):
        train(recipe_file, out, progress, place, settings)
    return _rows(run, out.name)


def _table(recipe: Recipe, mode: Mode, found: Mapping[str, Path]) -> Published | None:
    """Look at the categories as they lie there; VisA's table alone names some that may not."""
    reader = recipe.data.reader
    there = next((folder for folder in found.values() if folder.is_dir()), None)
    if reader == "auto":
        reader = reader_of(there) if there else "visa"
    return find_published(reader, mode, found)


def _is_complete(run: RunFolder, recipe: Recipe) -> bool:
    """Whether the last thing that a run of this recipe writes is there."""
    last = (run.bundle / "manifest.json", run.evaluation / "report.html")
    return all(f.is_file() for f in last) and run.read().get("config") == public_config(recipe)


class _Metrics(BaseModel):
    """What is read of a mode's metrics."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    mode: Mode
    image_auroc: float | None
    au_pro_30: float | None
    n_good: int
    n_defect: int
    n_unknown: int


def _rows(run: RunFolder, category: str) -> Mapping[Mode, Row]:
    file = run.evaluation / "metrics.json"
    if not file.is_file():
        raise DataError(f"{category}: learnt, but there is nothing to test on; extract test/ too")
    try:
        told = modes_of(json.loads(file.read_bytes()))
        found = [_Metrics.model_validate(metrics) for metrics in told.values()]
    except (ValueError, LookupError, AttributeError) as error:
        raise RunError(f"{file}: damaged; delete {run.evaluation} and train again") from error
    bundle = load_bundle(run.bundle)
    return {metrics.mode: _row(category, metrics, bundle) for metrics in found}


def _row(category: str, metrics: _Metrics, bundle: Bundle) -> Row:
    return Row(
        category,
        measured=Figures(metrics.image_auroc, metrics.au_pro_30),
        false_reject_rate=bundle.mode(metrics.mode).threshold.false_reject_rate,
        n_good=metrics.n_good,
        n_defect=metrics.n_defect,
        n_unknown=metrics.n_unknown,
    )
