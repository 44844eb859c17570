"""One training run, from a recipe to an evaluated bundle; each step continues where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loupe_models.atomic import put_folder
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.scoring import score_unit
from loupe_models.threshold import choose_threshold
from loupe_trainer.bundling import Measured, Origin, make_bundle, public_config
from loupe_trainer.cache import Samples, View, cache_tensors
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.errors import DataError, RecipeError, RunError, SplitError
from loupe_trainer.evaluate import Exam
from loupe_trainer.evaluating import evaluate_into
from loupe_trainer.golden import MARGIN_TOLERANCES, GoldenFrame, GoldenRule, choose_golden
from loupe_trainer.index import Index, index_data
from loupe_trainer.learn import GRAPH, Learnt, learn, read_learnt
from loupe_trainer.methods import get_method
from loupe_trainer.methods.base import Method
from loupe_trainer.named_files import with_named_files
from loupe_trainer.parity import TOLERANCE
from loupe_trainer.places import require_folder
from loupe_trainer.progress import Progress
from loupe_trainer.recipe import Recipe, load_recipe, parse_recipe
from loupe_trainer.run import RunFolder
from loupe_trainer.scorer import Scorer
from loupe_trainer.split import LEARNING, Split, split_parts, write_split


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe brought together with its data.

    Attributes:
        recipe_file: Where the recipe lay; relative paths in it start there.
        place: Where the data lies.
    """

    recipe: Recipe
    recipe_file: Path
    place: Path
    data: DataSet
    index: Index
    split: Split
    method: Method
    view: View

    @property
    def data_sha256(self) -> str:
        """Of the data, and of the files that the method's settings name."""
        fit = self.recipe.fit
        return with_named_files(self.index.data_sha256, fit, self.recipe_file.parent)


def train(
    recipe_file: Path, out: Path | None, progress: Progress, place: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> RunFolder:  # fmt: skip
    """Carry out a recipe.

    Args:
        recipe_file: TOML.
        out: The run folder; an interrupted run given the same one continues. None is
            `runs/<name>`.
        progress: Shown all along.
        place: The data, instead of the recipe's `data.path`.
        settings: Dotted keys that win over the recipe.

    Raises:
        BadInputError: Recipe, data or run folder cannot be used; the message says what to do.
        FaultError: Training or export went wrong.
    """
    recipe = load_recipe(recipe_file, settings)
    run = RunFolder(out or Path("runs") / recipe.name)
    with run.lock():
        plan = make_plan(recipe, recipe_file, place, progress)
        run.claim(public_config(recipe), recipe_file, plan.place, plan.data_sha256)
        write_split(run.split, plan.split, plan.index.sha256)
        samples = _samples(plan, run, progress)
        learnt = learn(plan.method, samples, plan.split, run, progress, recipe.seed)
        bundle = load_bundle(run.bundle) if run.bundle.exists() else export(plan, run, learnt)
        if plan.split.test:
            evaluate_into(run.evaluation, bundle, recipe.mode, _exam(plan), progress)
    return run


def export_run(run: RunFolder, out: Path | None, progress: Progress) -> Bundle:
    """Make the bundle of a trained run anew.

    Args:
        run: One that `train` has brought past fitting.
        out: Another place for the bundle; None replaces the run's own, once the new one is whole.
        progress: Shown while the data is hashed.

    Raises:
        RunError: Not a run, not trained yet, or its data changed.
    """
    if out is not None:
        _require_new(out)
        return export(_recall(run, progress), run, read_learnt(run), out)
    run.read()  # a folder that is no run is not locked
    with run.lock():
        plan, learnt = _recall(run, progress), read_learnt(run)
        anew = run.path / ".bundle.anew"
        shutil.rmtree(anew, ignore_errors=True)  # what a killed export left; the run is locked
        put_folder(export(plan, run, learnt, anew).path, run.bundle)
    return load_bundle(run.bundle)


def test_run(run: RunFolder, progress: Progress) -> dict[str, object]:
    """Evaluate a run's bundle again on its test parts.

    Returns:
        What `metrics.json` holds.

    Raises:
        RunError: Not a run, no test parts, or its data changed.
        BundleError: The run has no bundle yet.
    """
    run.read()  # a folder that is no run is not locked
    with run.lock():
        plan = _recall(run, progress)
        if not plan.split.test:
            raise RunError(f"{run.path}: no part was set aside for the test; raise split.test")
        bundle = load_bundle(run.bundle)
        return evaluate_into(run.evaluation, bundle, plan.recipe.mode, _exam(plan), progress)


def make_plan(recipe: Recipe, recipe_file: Path, place: Path | None, progress: Progress) -> Plan:
    """Open and hash the data, deal the parts, find the method: everything that can be refused.

    Raises:
        RecipeError: No data given, or the method does not serve the mode.
        DataError: The data is missing or not what it should be.
        SplitError: Too few parts.
    """
    where = place_of(recipe, recipe_file, place)
    method = get_method(recipe.method, recipe.fit, recipe.seed, recipe_file.parent)
    if recipe.mode not in method.modes:
        raise RecipeError(
            f"{recipe_file}: mode: {recipe.method} serves {', '.join(method.modes)}, "
            f"not {recipe.mode!r}"
        )
    data = open_data(where, reading(recipe))
    index = index_data(data, progress)
    try:
        split = split_parts(index.items, recipe.split, recipe.threshold, recipe.seed)
    except SplitError as error:
        if not index.n_copies:
            raise
        raise SplitError(
            f"{error} ({index.n_copies + index.n_originals} of the {len(index.items)} files hold "
            f"the same bytes as another, and count as {index.n_originals})"
        ) from error
    view = View(
        gate=recipe.gate,
        preprocess=recipe.preprocess or method.preprocess(),
        belt_from_camera=recipe.belt_from_camera or data.belt_from_camera,
    )
    return Plan(recipe, recipe_file, where, data, index, split, method, view)


def export(plan: Plan, run: RunFolder, learnt: Learnt, out: Path | None = None) -> Bundle:
    """Choose threshold and golden frames, and write the bundle.

    Raises:
        ThresholdError: The calibration scores cannot carry the promise.
        TrainingError: No golden frames can be found.
    """
    promise = plan.recipe.threshold
    scores = sorted(learnt.part_scores.values())
    threshold = choose_threshold(scores, promise.promised(len(scores)), promise.confidence)
    graph = run.export / GRAPH
    with Scorer(graph, learnt.inputs, learnt.outputs) as scorer:
        margin = MARGIN_TOLERANCES * TOLERANCE * score_unit(scores)
        golden = _golden(plan, GoldenRule(plan.view, scorer, threshold.value, margin))
    measured = Measured(
        graph, learnt.inputs, learnt.outputs, threshold, scores, learnt.parity, golden
    )
    origin = Origin(plan.recipe, plan.data_sha256, learnt.backbone)
    return make_bundle(out or run.bundle, measured, plan.view, origin)


def reading(recipe: Recipe) -> Reading:
    """Say how a recipe's data is to be read."""
    return Reading(
        recipe.data.reader,
        recipe.data.part_pattern,
        recipe.streams,
        recipe.gate,
        recipe.belt_from_camera,
    )


def place_of(recipe: Recipe, recipe_file: Path, place: Path | None) -> Path:
    """Say where the data lies: what the command line names wins over the recipe.

    Raises:
        RecipeError: Neither names a place.
    """
    if place is not None:
        return place.resolve()
    if recipe.data.path is None:
        raise RecipeError(
            f"{recipe_file}: data.path: the recipe names no data; add `--data PLACE`, or set path"
        )
    return (recipe_file.parent / recipe.data.path.expanduser()).resolve()


def _require_new(out: Path) -> None:
    require_folder(out)
    if out.exists():
        raise RunError(f"{out} exists; give --out a new place, or remove it first")


def _recall(run: RunFolder, progress: Progress) -> Plan:
    config, recipe_file, place = run.recall()
    recipe = parse_recipe(config, str(run.path / "run.json"))
    plan = make_plan(recipe, recipe_file, place, progress)
    run.claim(public_config(recipe), recipe_file, place, plan.data_sha256)
    return plan


def _exam(plan: Plan) -> Exam:
    return Exam(plan.data, plan.split.test, plan.index.sha256, is_checked=True)


def _samples(plan: Plan, run: RunFolder, progress: Progress) -> Samples:
    """Cache what is learnt from, and make sure that the gate left every role enough."""
    samples = cache_tensors(
        run.cache, plan.data, plan.split.learning, plan.view, plan.index.data_sha256, progress
    )
    for role in LEARNING:
        seen = samples.of(plan.split.role(role))
        if not len(seen):
            raise RunError(
                f"the gate saw no whole part in the {role} frames: mend [gate] in the recipe"
            )
        if seen.are_alike():
            raise DataError(
                f"all {len(seen)} {role} frames are the same, pixel by pixel, as the network sees "
                f"them: nothing can be learnt of how good parts differ; give a picture of each of "
                f"many parts, not copies of one, and look at what [gate] and [preprocess] cut out"
            )
    return samples


def _golden(plan: Plan, rule: GoldenRule) -> tuple[GoldenFrame, ...]:
    defects = [item for item in plan.split.test if item.kind == "defect"]
    good = (frame for _, frame in plan.data.frames(plan.split.threshold))
    bad = (frame for _, frame in plan.data.frames(_spread(defects)))
    return choose_golden(good, bad, rule)


def _spread(items: list[Item]) -> list[Item]:
    """Take one item of each part, so that the few that are tried differ."""
    return list({item.part_id: item for item in reversed(items)}.values())[::-1]
