"""Evaluate a bundle on any labelled data, alone or beside others of its recipe."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from loupe_edge.camera_settings import Stream
from loupe_edge.station import streams_needed
from loupe_models.atomic import put_folder
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.manifest import Mode
from loupe_trainer.data.opening import Reading, open_data, require_streams, streams_at
from loupe_trainer.errors import RunError
from loupe_trainer.evaluate import Exam, evaluate
from loupe_trainer.gaussian_baseline import GaussianBaseline
from loupe_trainer.index import index_data
from loupe_trainer.learn import BASELINE
from loupe_trainer.learnt import refuse_learnt
from loupe_trainer.outcomes import decision_lines
from loupe_trainer.places import require_folder
from loupe_trainer.progress import Progress
from loupe_trainer.reporting.page import mode_section, write_report
from loupe_trainer.run import RunFolder
from loupe_trainer.seeds import require_same_recipe, spread_over_seeds
from loupe_trainer.summary import (
    DECISIONS,
    METRICS,
    document,
    modes_of,
    summarise,
    write_evaluation,
)

STREAMS: tuple[Stream, ...] = ("rgb", "depth")
REPORT = "report.html"
OURS = frozenset({METRICS, DECISIONS, REPORT})  # and, of several seeds, `seed-N`


def evaluate_bundle(
    path: Path, place: Path, out: Path, mode: str | None, progress: Progress,
    also: Sequence[Path] = (),
) -> dict[str, object]:  # fmt: skip
    """Inspect labelled data and write metrics, decisions and the report.

    Args:
        path: The bundle.
        place: Folder, JSON Lines index or recording.
        out: Folder for what is written; an evaluation that is there is replaced as a whole.
        mode: None evaluates every mode that the data can serve.
        progress: Shown while frames are inspected.
        also: Bundles of the same recipe and data with other seeds, two at least; each is
            evaluated into `out/seed-N`, and the spread over all seeds goes beside the numbers.

    Returns:
        What `metrics.json` holds.

    Raises:
        BundleError: A bundle is damaged, or does not serve the mode.
        DataError: The data is unusable, lacks a stream that the mode needs, or holds what one of
            the bundles learnt from.
        RunError: The other bundles are of another recipe, or too few; or `out` cannot be written,
            or holds other things.
    """
    _require_own(out)
    bundles = [load_bundle(each) for each in (path, *also)]
    if also:
        require_same_recipe(bundles)
    modes = _modes(bundles[0], place, mode)
    data = open_data(place, _reading(bundles[0], modes))
    index = index_data(data, progress)
    runs = [RunFolder(bundle.path.resolve().parent) for bundle in bundles]
    checks = [refuse_learnt(run, data, index.sha256) for run in runs]  # each may refuse
    exam = Exam(data, index.items, index.sha256, is_checked=all(checks))
    with _whole(out) as making:
        others = [
            _write_into(making / f"seed-{b.manifest.provenance.seed}", b, modes, exam, progress)
            for b in bundles[1:]
        ]
        return _write_into(making, bundles[0], modes, exam, progress, others)


def evaluate_into(
    out: Path, bundle: Bundle, modes: Sequence[Mode], exam: Exam, progress: Progress
) -> dict[str, object]:
    """Put an exam, beside the run's baseline where there is one, and write all that comes of it.

    Args:
        out: Folder for what is written; an evaluation that is there is replaced as a whole.
        bundle: Verified.
        modes: Those of its modes that are asked.
        exam: What is asked.
        progress: Shown while frames are inspected.

    Returns:
        What `metrics.json` holds.

    Raises:
        DataError: There is nothing to ask, or a file cannot be read.
        RunError: The folder cannot be written, or holds other things.
    """
    _require_own(out)
    with _whole(out) as making:
        return _write_into(making, bundle, modes, exam, progress)


def _require_own(out: Path) -> None:
    """Refuse, before the work, a folder that nobody would want replaced."""
    require_folder(out)
    there = {file.name for file in out.iterdir()} if out.exists() else set[str]()
    strangers = sorted(name for name in there - OURS if not name.startswith("seed-"))
    if strangers:
        raise RunError(
            f"{out} holds other things ({', '.join(strangers[:3])}); give --out a new folder, or "
            f"that of an evaluation, which is replaced"
        )


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Give a folder to fill that takes the place of `out` once nothing has failed."""
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield making
        making.chmod(0o755)
        put_folder(making, out)
    finally:
        shutil.rmtree(making, ignore_errors=True)  # nothing, once it is in place


def _write_into(
    out: Path, bundle: Bundle, modes: Sequence[Mode], exam: Exam, progress: Progress,
    others: Sequence[Mapping[str, object]] = (),
) -> dict[str, object]:  # fmt: skip
    """Evaluate mode by mode, so that the maps of one mode at a time are in memory."""
    file = bundle.path.resolve().parent / "export" / BASELINE
    decisions, by_mode, sections = "", dict[str, dict[str, object]](), dict[str, str]()
    for mode in modes:
        looks_at_colour = "rgb" in bundle.mode(mode).preprocess.tensors
        baseline = GaussianBaseline.load(file) if file.exists() and looks_at_colour else None
        evaluation = evaluate(bundle, mode, exam, progress, baseline)
        metrics = summarise(evaluation, exam)
        if others:
            each = [metrics, *(modes_of(other)[mode] for other in others)]
            metrics["over_seeds"] = spread_over_seeds(each)
        by_mode[mode] = metrics
        decisions += decision_lines(evaluation.frames, mode, evaluation.threshold)
        sections[mode] = mode_section(bundle, evaluation, metrics, exam, is_alone=len(modes) == 1)
    told = document(by_mode, [mode for mode in bundle.manifest.modes if mode not in modes])
    write_evaluation(out, decisions, told)
    write_report(out / REPORT, bundle, by_mode, sections, exam)
    return told


def _modes(bundle: Bundle, place: Path, mode: str | None) -> tuple[Mode, ...]:
    """Choose what is evaluated: the mode that is named, or all that the data can serve."""
    if mode is not None:
        bundle.mode(mode)  # or it is refused, and those that are served are named
    needed = {
        name: tuple(s for s in STREAMS if s in streams_needed(contract, contract.gate))
        for name, contract in bundle.manifest.modes.items()
        if mode in {None, name}
    }
    how = Reading()
    given = streams_at(place, how)
    served = tuple(name for name, streams in needed.items() if set(streams) <= set(given))
    if not served:
        require_streams(place, how, needed)
    return served


def _reading(bundle: Bundle, modes: Sequence[Mode]) -> Reading:
    """Read as the line will; and folders as the recipe did, for parts are what is counted."""
    contracts = [bundle.mode(mode) for mode in modes]
    needed = {stream for c in contracts for stream in streams_needed(c, c.gate)}
    settings = bundle.manifest.provenance.config.get("data")
    pattern = settings.get("part_pattern") if isinstance(settings, dict) else None
    return Reading(
        part_pattern=pattern if isinstance(pattern, str) else None,
        streams=tuple(s for s in STREAMS if s in needed),
        gate=contracts[0].gate,
    )
