"""Evaluate a bundle on any labelled data, alone or beside others of its recipe."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from loupe_edge.camera_settings import Stream
from loupe_edge.inspector import streams_needed
from loupe_models.atomic import put_folder
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.errors import BundleError
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.errors import RunError
from loupe_trainer.evaluate import Exam, evaluate
from loupe_trainer.gaussian_baseline import GaussianBaseline
from loupe_trainer.index import index_data
from loupe_trainer.learn import BASELINE
from loupe_trainer.learnt import refuse_learnt
from loupe_trainer.places import require_folder
from loupe_trainer.progress import Progress
from loupe_trainer.reporting.page import write_report
from loupe_trainer.run import RunFolder
from loupe_trainer.seeds import require_same_recipe, spread_over_seeds
from loupe_trainer.summary import DECISIONS, METRICS, summarise, write_evaluation

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
        mode: None where the bundle serves just one.
        progress: Shown while frames are inspected.
        also: Bundles of the same recipe and data with other seeds, two at least; each is
            evaluated into `out/seed-N`, and the spread over all seeds goes beside the numbers.

    Returns:
        What `metrics.json` holds.

    Raises:
        BundleError: A bundle is damaged, or serves several modes and none is named.
        DataError: The data is unusable, or holds what one of the bundles learnt from.
        RunError: The other bundles are of another recipe, or too few; or `out` cannot be written,
            or holds other things.
    """
    _require_own(out)
    bundles = [load_bundle(each) for each in (path, *also)]
    if also:
        require_same_recipe(bundles)
    mode = mode or _only_mode(bundles[0])
    data = open_data(place, _reading(bundles[0], mode))
    index = index_data(data, progress)
    runs = [RunFolder(bundle.path.resolve().parent) for bundle in bundles]
    checks = [refuse_learnt(run, data, index.sha256) for run in runs]  # each may refuse
    exam = Exam(data, index.items, index.sha256, is_checked=all(checks))
    with _whole(out) as making:
        others = [
            _write_into(making / f"seed-{b.manifest.provenance.seed}", b, mode, exam, progress)
            for b in bundles[1:]
        ]
        return _write_into(making, bundles[0], mode, exam, progress, others)


def folder_for(path: Path, place: Path) -> Path:
    """Name the folder beside a bundle for what is measured on one place and no other.

    Two data sets of one name lie in two places; the same place always gives the same folder.
    """
    place = place.resolve()
    identity = hashlib.sha256(str(place).encode()).hexdigest()[:6]
    return path.resolve().parent / f"evaluation-{place.stem}-{identity}"


def evaluate_into(
    out: Path, bundle: Bundle, mode: str, exam: Exam, progress: Progress
) -> dict[str, object]:
    """Put an exam, beside the run's baseline where there is one, and write all that comes of it.

    Args:
        out: Folder for what is written; an evaluation that is there is replaced as a whole.
        bundle: Verified.
        mode: One that it serves.
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
        return _write_into(making, bundle, mode, exam, progress)


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
    out: Path, bundle: Bundle, mode: str, exam: Exam, progress: Progress,
    others: Sequence[Mapping[str, object]] = (),
) -> dict[str, object]:  # fmt: skip
    file = bundle.path.resolve().parent / "export" / BASELINE
    baseline = GaussianBaseline.load(file) if file.exists() else None
    evaluation = evaluate(bundle, mode, exam, progress, baseline)
    metrics = summarise(evaluation, exam)
    if others:
        metrics["over_seeds"] = spread_over_seeds([metrics, *others])
    write_evaluation(out, evaluation, metrics)
    write_report(out / REPORT, bundle, evaluation, metrics, exam)
    return metrics


def _only_mode(bundle: Bundle) -> str:
    modes = list(bundle.manifest.modes)
    if len(modes) > 1:
        raise BundleError(f"{bundle.path}: serves {', '.join(modes)}; choose one with --mode")
    return modes[0]


def _reading(bundle: Bundle, mode: str) -> Reading:
    """Read as the line will; and folders as the recipe did, for parts are what is counted."""
    contract = bundle.mode(mode)
    needed = streams_needed(contract, contract.gate)
    settings = bundle.manifest.provenance.config.get("data")
    pattern = settings.get("part_pattern") if isinstance(settings, dict) else None
    return Reading(
        part_pattern=pattern if isinstance(pattern, str) else None,
        streams=tuple(s for s in STREAMS if s in needed),
        gate=contract.gate,
        is_for_test=True,
    )
