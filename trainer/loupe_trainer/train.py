"""One training run, from a recipe to an evaluated bundle; each step continues where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from loupe_models.atomic import put_folder
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.manifest import Mode
from loupe_models.scoring import score_unit
from loupe_models.threshold import choose_threshold
from loupe_trainer.bundling import Measured, Origin, make_bundle, public_config
from loupe_trainer.cache import Samples, cache_tensors
from loupe_trainer.compute import require_devices
from loupe_trainer.data.item import one_a_part
from loupe_trainer.errors import DataError, RunError
from loupe_trainer.evaluate import Exam
from loupe_trainer.evaluating import evaluate_into
from loupe_trainer.golden import MARGIN_TOLERANCES, GoldenFrame, GoldenRule, choose_golden
from loupe_trainer.half_variant import examine_half
from loupe_trainer.learn import Learnt, LearntMode, graph_name, learn, read_learnt
from loupe_trainer.places import require_folder
from loupe_trainer.plan import Plan, make_plan
from loupe_trainer.progress import Progress
from loupe_trainer.recipe import load_recipe, parse_recipe
from loupe_trainer.run import RunFolder
from loupe_trainer.scorer import Scorer
from loupe_trainer.split import LEARNING, write_split
from loupe_trainer.tolerance import FLOAT32, HALF
from loupe_trainer.views import naming


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
        if not run.export.exists():  # what has learnt needs no device
            require_devices(recipe.fit)
        with run.released_if_refused():
            run.claim(public_config(recipe), recipe_file, plan.place, plan.data_sha256)
            write_split(run.split, plan.split, plan.index.sha256)
            learnt = learn(plan, _samples(plan, run, progress), run, progress)
        bundle = load_bundle(run.bundle) if run.bundle.exists() else export(plan, run, learnt)
        if plan.split.test:
            evaluate_into(run.evaluation, bundle, recipe.modes, _exam(plan), progress)
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
        return evaluate_into(run.evaluation, bundle, plan.recipe.modes, _exam(plan), progress)


def export(plan: Plan, run: RunFolder, learnt: Learnt, out: Path | None = None) -> Bundle:
    """Choose thresholds and golden frames, mode by mode, and write the bundle.

    Raises:
        ThresholdError: The calibration scores of a mode cannot carry the promise.
        TrainingError: No golden frames can be found.
    """
    measured: dict[Mode, Measured] = {}
    for mode, found in learnt.modes.items():
        with naming(mode):
            measured[mode] = _measured(plan, run, mode, found)
    origin = Origin(plan.recipe, plan.data_sha256, learnt.backbone)
    return make_bundle(out or run.bundle, measured, plan.views, origin)


def _measured(plan: Plan, run: RunFolder, mode: Mode, learnt: LearntMode) -> Measured:
    promise = plan.recipe.threshold
    scores = sorted(learnt.part_scores.values())
    threshold = choose_threshold(scores, promise.promised(len(scores)), promise.confidence)
    graph, half = run.export / graph_name(mode), run.export / graph_name(mode, "fp16")
    unit = score_unit(scores)
    with Scorer(graph, learnt.inputs, learnt.outputs) as scorer:
        # Of the widest variant, so that the same frames prove them all.
        tolerance = FLOAT32 if learnt.half.refused else HALF
        margin = MARGIN_TOLERANCES * tolerance.at(threshold.value, unit)
        rule = GoldenRule(plan.views.modes[mode], scorer, threshold.value, margin)
        golden = _golden(plan, rule)
        variant = examine_half(plan, learnt, (graph, half), rule, golden, unit)
    return Measured(
        graph, learnt.inputs, learnt.outputs, threshold, scores, learnt.parity, golden, variant
    )


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
    """Cache what is learnt from, and make sure that the gates left every role enough."""
    samples = cache_tensors(
        run.cache, plan.data, plan.split.learning, plan.views, plan.index.data_sha256, progress
    )
    for role in LEARNING:
        _require_some(samples.of(plan.split.role(role)), role, "mend [gate] in the recipe")
    for mode, view in plan.views.modes.items():
        seen = samples.of_mode(plan.split.threshold, mode, view.preprocess.tensors)
        with naming(mode):
            _require_some(seen, "threshold", f"mend its gate, [gates.{mode}], in the recipe")
    return samples


def _require_some(seen: Samples, role: str, mend: str) -> None:
    if not len(seen):
        raise RunError(f"the gate saw no whole part in the {role} frames: {mend}")
    stream = seen.alike()
    if stream is not None:
        raise DataError(
            f"all {len(seen)} {role} frames are the same, pixel by pixel, as the network sees "
            f"their {stream}: nothing can be learnt of how good parts differ; give a picture of "
            f"each of many parts, not copies of one, and look at what [gate] and [preprocess] cut "
            f"out"
        )


def _golden(plan: Plan, rule: GoldenRule) -> tuple[GoldenFrame, ...]:
    defects = (item for item in plan.split.test if item.kind == "defect")
    with (
        closing(plan.data.frames(plan.split.threshold)) as good,
        closing(plan.data.frames(one_a_part(defects))) as bad,
    ):
        return choose_golden((frame for _, frame in good), (frame for _, frame in bad), rule)
