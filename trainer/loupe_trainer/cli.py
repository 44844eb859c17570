"""`loupe-trainer`: what a person types on the host. Each command parses, calls, and prints.

Commands import what they run when they run, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from loupe_calibration.errors import LoupeError
from loupe_calibration.os_errors import explained
from loupe_edge.arguments import Version
from loupe_trainer.errors import RecipeError, StoppedError

if TYPE_CHECKING:
    from loupe_models.bundle import Bundle
    from loupe_models.gate import GateSpec

app = typer.Typer(
    name="loupe-trainer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Learn what a good part looks like, and export a bundle for `loupe-edge`.\n\n"
    "Start with `loupe-trainer train trainer/recipes/folder.toml --data FOLDER`, where FOLDER "
    "holds pictures of good parts.\n\n"
    "Exit status: 0 done, 1 a fault, 2 bad input (the message says what to do), 130 interrupted.",
)
prepare_app = typer.Typer(no_args_is_help=True, help="Offline steps over published data.")
app.add_typer(prepare_app, name="prepare")
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

Run = Annotated[Path, typer.Argument(help="The --out folder of a training run.")]


def main() -> None:
    """Run the command line; a fault or bad input is one message, never a traceback."""
    try:
        app()
    except (LoupeError, OSError) as error:
        told = explained(error) if isinstance(error, OSError) else error
        err.print(f"loupe-trainer: {told}", style="red", markup=False, soft_wrap=True)
        sys.exit(told.exit_status)
    except SystemExit as end:  # typer has caught the interrupt, and says nothing
        if end.code == StoppedError.exit_status:
            err.print("loupe-trainer: interrupted")
        raise


@contextmanager
def _continuing() -> Iterator[None]:
    """Say of work that is interrupted how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(
            "interrupted; the same command, with the same --out, continues"
        ) from None


@app.callback()
def _root(_: Version = False) -> None: ...


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file; trainer/recipes holds examples.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures, .jsonl index or .db3 recording; or one category "
                     "of MVTec AD, LOCO, 3D-AD or VisA. Wins over the recipe's data.path."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Run folder, runs/NAME by default. An interrupted run given "
                     "the same folder continues."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE that wins over the recipe, as in "
                     "--set fit.steps=2000. May be repeated."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="The data is a folder of categories, as MVTec AD, MVTec LOCO "
                     "AD, MVTec 3D-AD and VisA are published: one run each, in a folder each "
                     "under --out, then a table beside published results."),
    ] = False,
) -> None:  # fmt: skip
    """Learn from good parts: index, fit, calibrate, export, prove, evaluate.

    Parts, never frames, are dealt into fit, quantiles, threshold and test; a part with any
    defect serves the test only. The run folder holds the bundle, evaluation/report.html and
    split/test.jsonl, which `loupe-edge record --from` takes.
    """
    from loupe_models.bundle import load_bundle
    from loupe_trainer.progress import open_progress
    from loupe_trainer.recipe import load_recipe
    from loupe_trainer.train import train as run_recipe

    chosen = _parse_settings(settings or [])
    if every:
        with _continuing():
            _train_all(recipe, data, to, chosen)
        return
    with _continuing():
        settled = load_recipe(recipe, chosen)
        _warn_of_gates(settled.gate_of(mode) for mode in settled.modes)
        run = run_recipe(recipe, to, open_progress(), data, chosen)
    _print_test(run.evaluation)
    out.print(f"bundle: {run.bundle}", soft_wrap=True)
    _warn_of_refused(load_bundle(run.bundle))


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder with the bundle's manifest.json.")],
    data: Annotated[
        Path,
        typer.Argument(help="What to inspect: a folder, a .jsonl index (a run's split/test.jsonl) "
                       "or a .db3 recording with its labels; see above."),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Where metrics.json, decisions.jsonl and report.html go; "
                     "`evaluation-NAME-ID` beside the bundle by default, NAME being the data's "
                     "and ID standing for its place. An evaluation that is there is replaced."),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="rgb, depth or rgbd; without it, every mode that the data can serve."),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Bundle of the same recipe and data, another seed; give two or more "
                     "for mean and spread over seeds. Train them with --set seed=N, and with one "
                     "--set split.seed=0 for all where the data has no test set of its own."),
    ] = None,
) -> None:  # fmt: skip
    """Inspect labelled data with the very code of the line, and measure how good it is.

    Every number comes with a bootstrap 95 % interval. In metrics.json the numbers of one mode
    stand at the top, those of several under `modes`, by mode. Refuses pictures, copies of
    pictures and parts that the bundle's own run learnt from, where the run folder is at hand.

    - A folder holds `good/` and a folder a kind of defect, such as `scratch/`, or has them in
    `test/`; masks are `ground_truth/scratch/NAME_mask.png`. Pictures straight in it are all good.
    - An index has one JSON object a line with `filename` (absolute, or relative to the index) and
    `label` (0 good, 1 defect), and where known `label_name` (the kind of defect), `maskname`
    and `part` (which part it shows, where several pictures show one).
    """
    from loupe_trainer.evaluating import evaluate_bundle, folder_for
    from loupe_trainer.progress import open_progress

    folder = to or folder_for(bundle, data)
    _print_metrics(evaluate_bundle(bundle, data, folder, mode, open_progress(), also or ()))
    out.print(f"report: {folder / 'report.html'}", soft_wrap=True)


@app.command()
def export(
    run: Run,
    to: Annotated[
        Path | None, typer.Option("--out", help="Another place; the run's own bundle by default.")
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Also build its TensorRT plans, into this machine's cache: for "
                     "an edge that runs here, on this GPU. Plans never enter a bundle."),
    ] = False,
) -> None:  # fmt: skip
    """Make the bundle of a trained run anew."""
    from loupe_edge.build import build_plans
    from loupe_edge.engines import require_tensorrt
    from loupe_trainer.progress import open_progress
    from loupe_trainer.run import RunFolder
    from loupe_trainer.train import export_run

    if plan:
        require_tensorrt()  # minutes before it would be missed
    bundle = export_run(RunFolder(run), to, open_progress())
    out.print(f"bundle: {bundle.path} ({bundle.sha256[:16]})", soft_wrap=True)
    _warn_of_gates(contract.gate for contract in bundle.manifest.modes.values())
    _warn_of_refused(bundle)
    for built in build_plans(bundle) if plan else ():
        out.print(built.told, markup=False, soft_wrap=True)


@app.command()
def report(run: Run) -> None:
    """Evaluate a run's bundle again on its test parts, and write the report."""
    from loupe_trainer.progress import open_progress
    from loupe_trainer.run import RunFolder
    from loupe_trainer.train import test_run

    folder = RunFolder(run)
    _print_metrics(test_run(folder, open_progress()))
    out.print(f"report: {folder.evaluation / 'report.html'}", soft_wrap=True)


@app.command()
def pretrain(
    to: Annotated[Path, typer.Option("--out", help="The .safetensors file to write.")],
    backbone: Annotated[
        str | None, typer.Option(help="What to distil from; none trains by self-supervision.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The backbone's file or folder; see `backbones`.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Folder of any photographs; none draws textures.")
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(help="A published teacher (teacher_small.pth, teacher_medium.pth) to take as "
                     "it is: nothing is trained."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, as in --set steps=5000; also size, width, batch, "
                     "lr, seed, device, and the licence of weights that do not say it."),
    ] = None,
) -> None:  # fmt: skip
    """Make a teacher, once, for any number of recipes: `teacher = "FILE"` under [fit].

    An interrupted training given the same --out continues.
    """
    from loupe_trainer.progress import open_progress
    from loupe_trainer.teachers.asked import published_teacher, trained_teacher

    named = {"backbone": backbone, "backbone_weights": weights, "corpus": corpus}
    told = {key: value for key, value in named.items() if value is not None}
    chosen = _parse_settings(settings or [])
    if published is not None:
        teacher = published_teacher(published, to, told, chosen)
    else:
        is_made = to.exists()  # by these very settings, or it is refused
        with _continuing():
            teacher = trained_teacher(to, told, chosen, open_progress())
        if is_made:
            out.print(f"{to}: is made already", markup=False, soft_wrap=True)
    origin = teacher.origin
    out.print(f"learnt from: {origin.name}, {origin.licence}", markup=False, soft_wrap=True)
    out.print(f"teacher: {to} ({teacher.sha256[:16]})", soft_wrap=True)


@prepare_app.command("mvtec3d")
def prepare_mvtec3d(
    data: Annotated[
        Path, typer.Argument(help="One category of MVTec 3D-AD, or the folder of all of them.")
    ],
    to: Annotated[Path, typer.Option("--out", help="Another folder, never the data's own.")],
) -> None:
    """Remove the plane and all but the largest cluster, as published methods do, into a new folder.

    An interrupted run given the same --out continues.
    """
    from loupe_trainer.prepare_mvtec_3d import prepare_mvtec_3d
    from loupe_trainer.progress import open_progress

    with _continuing():
        n_exposures = prepare_mvtec_3d(data, to, open_progress())
    out.print(f"prepared: {n_exposures} exposures in {to}", markup=False, soft_wrap=True)


@app.command()
def backbones() -> None:
    """List what a teacher is distilled from, colour or depth described with, and where it is."""
    from loupe_trainer.backbones import BACKBONES
    from loupe_trainer.encoders.point_weights import fetch_point_mae
    from loupe_trainer.encoders.vit_published import fetch_lines
    from loupe_trainer.teachers.convert import PUBLISHED

    table = Table("--backbone", "what it is")
    for name, kind in sorted(BACKBONES.items()):
        table.add_row(name, kind.what)
    out.print(table)
    out.print("Nothing is downloaded here. For `pretrain --backbone NAME --weights PLACE`:")
    lines = [f"{name}: {kind.fetch(None)}" for name, kind in sorted(BACKBONES.items())]
    teachers = [f"{teacher.name}: fetch {teacher.how_to_fetch()}" for teacher in PUBLISHED]
    lines += ["", "For `pretrain --published FILE`:", *teachers]
    lines += ["", "For depth in CMDIAD:", f"Point-MAE: {fetch_point_mae()}"]
    lines += ["", "Vision transformers, to describe colour with:", *fetch_lines()]
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def _train_all(
    recipe: Path, data: Path | None, to: Path | None, settings: Mapping[str, str]
) -> None:
    from loupe_trainer.benchmark import SUMMARY, train_all
    from loupe_trainer.benchmark_summary import exit_status, summary_table
    from loupe_trainer.progress import open_progress

    def tell(line: str) -> None:
        out.print(line, markup=False, soft_wrap=True)

    summaries, folder = train_all(recipe, to, open_progress(), tell, data, settings)
    for summary in summaries:
        out.print(summary_table(summary))
        if summary.published is not None:
            tell(f"published: {summary.published.source}")
    if summaries[0].absent:
        tell(f"not in the folder: {', '.join(summaries[0].absent)}")
    for row in summaries[0].rows:
        if row.error:
            err.print(f"{row.category}: {row.error}", style="red", markup=False, soft_wrap=True)
    tell(f"summary: {folder / SUMMARY}")
    if status := exit_status(summaries):
        raise typer.Exit(status)


def _parse_settings(settings: list[str]) -> Mapping[str, str]:
    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {setting}: write KEY=VALUE, as in fit.steps=2000")
        pairs[key.strip()] = value.strip()
    return pairs


def _warn_of_gates(gates: Iterable[GateSpec]) -> None:
    _warn(gate.warning for gate in gates if gate.warning)


def _warn_of_refused(bundle: Bundle) -> None:
    """Say which graphs somebody who ships the bundle will miss, and where."""
    _warn(
        f"mode {name} has no {precision} graph ({reason}): TensorRT, which takes that one alone, "
        f"cannot run the mode; the other engines run its fp32 graph"
        for name, mode in bundle.manifest.modes.items()
        for precision, reason in mode.refused.items()
    )


def _warn(told: Iterable[str]) -> None:
    for warning in dict.fromkeys(told):
        err.print(f"warning: {warning}", style="yellow", soft_wrap=True)


def _print_test(evaluation: Path) -> None:
    metrics_file = evaluation / "metrics.json"
    if not metrics_file.exists():
        out.print(
            "not evaluated: no part was set aside for the test (split.test); give labelled data to "
            "`loupe-trainer evaluate`",
            soft_wrap=True,
        )
        return
    _print_metrics(json.loads(metrics_file.read_text(encoding="utf-8")))
    out.print(f"report: {evaluation / 'report.html'}", soft_wrap=True)


def _print_metrics(metrics: Mapping[str, object]) -> None:
    from loupe_trainer.metrics_table import metrics_table
    from loupe_trainer.summary import modes_of, what_is_missing, what_is_worse

    out.print(metrics_table(metrics))
    each_mode = modes_of(metrics).values()
    _warn(line for each in each_mode for line in what_is_worse(each))
    missing = {line for each in each_mode for line in what_is_missing(each)}
    for line in sorted(missing):
        out.print(line, soft_wrap=True)
    absent = metrics.get("modes_left_out")
    if isinstance(absent, list):
        out.print(f"not evaluated: {', '.join(absent)}", soft_wrap=True)
