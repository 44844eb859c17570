"""Verdicts for plain pictures: no camera, but the gate, preprocessing and engine of the line."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.table import Table
from rich.text import Text

from loupe_calibration.errors import BadInputError
from loupe_edge.inspector import Inspection, Inspector
from loupe_edge.listen import DECISION_STYLE
from loupe_edge.overlays import MapScale, draw_overlay
from loupe_edge.pictures import list_pictures, read_rgb
from loupe_edge.verdict import Decision, WireBundle, WireRegion
from loupe_models.atomic import write_text
from loupe_models.bundle import Bundle, refuse_inside_bundle
from loupe_models.checked import Checked
from loupe_models.errors import BundleError, FrameError
from loupe_models.frame import Frame, Rect
from loupe_models.png import write_png

VERDICTS: Final = "verdicts.jsonl"
OVERLAYS: Final = "overlays"
MODE: Final = "rgb"  # pictures have colour and nothing else
MAX_ROWS: Final = 40  # of the table; the file has them all

WITHOUT_COLOUR: Final = (
    "look at a recording instead (`loupe-edge replay --bundle BUNDLE --recording FILE.db3`), or "
    "give a bundle that serves rgb"
)

Progress = Callable[[int, int], None]


class PictureVerdict(Checked):
    """One line of `verdicts.jsonl`.

    Attributes:
        picture: Its file name.
        overlay: Relative to the output folder.
        score: None exactly where nothing was measured.
    """

    picture: str
    overlay: str
    decision: Decision
    reason: str
    score: float | None
    threshold: float
    p_value: float | None
    regions: tuple[WireRegion, ...]
    stage_us: dict[str, int]
    bundle: WireBundle


@dataclass(frozen=True, slots=True)
class _Job:
    """One picture and where its overlay goes."""

    path: Path
    name: str
    overlay: str


def require_colour(bundle: Bundle) -> None:
    """Make sure that a bundle can judge pictures.

    Raises:
        BundleError: It does not serve colour alone.
    """
    if MODE not in bundle.manifest.modes:
        served = " and ".join(bundle.manifest.modes)
        raise BundleError(
            f"{bundle.path}: serves {served}, not rgb, and pictures have no depth: {WITHOUT_COLOUR}"
        )


def inspect_pictures(
    inspector: Inspector, source: Path, out: Path, progress: Progress
) -> list[PictureVerdict]:
    """Inspect a picture, or every picture of a folder; draw an overlay of each.

    Args:
        inspector: Of a mode that needs colour alone.
        source: A picture, or a folder of pictures.
        out: Receives `verdicts.jsonl` and `overlays/`; made if it does not exist.
        progress: Called with pictures done and pictures in all.

    Returns:
        One verdict a picture, in the order of their names.

    Raises:
        BundleError: The mode needs depth, which pictures do not have; or `out` lies in a bundle.
        BadInputError: Nothing to inspect, not an image, a size that does not fit the gate, or
            pictures that lie where the overlays go.
        OSError: The disk does not take an overlay.
    """
    if inspector.mode != MODE:
        raise BundleError(
            f"mode {inspector.mode} needs depth, and pictures have none: {WITHOUT_COLOUR}"
        )
    refuse_inside_bundle(out)
    jobs = _jobs(source)
    _refuse_own_folder(jobs, out)
    (out / VERDICTS).unlink(missing_ok=True)  # an earlier run's, which these overlays would belie
    scale = MapScale.around(inspector.cut, inspector.contract.calibration_scores)
    verdicts: list[PictureVerdict] = []
    for number, job in enumerate(jobs):
        progress(number, len(jobs))
        frame = Frame.from_image(read_rgb(job.path), frame_id=number)
        _check_fits(job, frame, inspector)
        inspection = inspector.inspect(frame) or _nothing_seen(frame, inspector)
        overlay = draw_overlay(frame, inspection, scale, job.name)
        write_png(out / job.overlay, overlay[..., ::-1])
        verdicts.append(_verdict(job, inspection, inspector))
    lines = [verdict.model_dump_json() for verdict in verdicts]
    write_text(out / VERDICTS, "\n".join(lines) + "\n")
    progress(len(jobs), len(jobs))
    return verdicts


def verdicts_table(verdicts: Sequence[PictureVerdict]) -> Table:
    """Sum up: decisions in the title, the pictures that are not good first, highest score first."""
    counts = [f"{sum(v.decision == d for v in verdicts)} {d}" for d in DECISION_STYLE]
    pictures = f"{len(verdicts)} picture{'s' if len(verdicts) != 1 else ''}"
    table = Table(title=f"{pictures}: {', '.join(counts)}", title_justify="left")
    for name in ("picture", "decision", "score", "threshold", "p", "finding"):
        table.add_column(name, justify="right" if name in ("score", "threshold", "p") else "left")
    ordered = sorted(verdicts, key=_severity)
    for verdict in ordered[:MAX_ROWS]:
        decision = Text(f" {verdict.decision.upper()} ", style=DECISION_STYLE[verdict.decision])
        score = "-" if verdict.score is None else f"{verdict.score:.3f}"
        p_value = "-" if verdict.p_value is None else f"{verdict.p_value:.3f}"
        finding = _finding(verdict)
        table.add_row(
            Text(verdict.picture), decision, score, f"{verdict.threshold:.3f}", p_value, finding
        )
    if len(ordered) > MAX_ROWS:
        table.caption = f"and {len(ordered) - MAX_ROWS} more in {VERDICTS}"
    return table


def _severity(verdict: PictureVerdict) -> tuple[int, float]:
    score = float("inf") if verdict.score is None else verdict.score
    return ("defect", "unknown", "good").index(verdict.decision), -score


def _finding(verdict: PictureVerdict) -> str:
    if not verdict.regions:
        return verdict.reason if verdict.decision == "unknown" else ""
    x, y, width, height = verdict.regions[0].bbox_px
    more = f" and {len(verdict.regions) - 1} more" if len(verdict.regions) > 1 else ""
    return f"{width}×{height} px at {x}, {y}{more}"


def _jobs(source: Path) -> list[_Job]:
    if source.is_dir():
        paths = list_pictures(source)
    elif source.exists():
        paths = [source]
    else:
        raise BadInputError(f"{source}: no such picture or folder")
    overlays: dict[str, Path] = {}
    for path in paths:
        overlays[_free_name(path.name, overlays)] = path
    return [_Job(path, path.name, f"{OVERLAYS}/{name}") for name, path in overlays.items()]


def _free_name(picture: str, taken: Container[str]) -> str:
    """Name a PNG after a picture, and after no other: a.jpg and a.jpg.png may lie side by side."""
    name = picture if picture.endswith(".png") else f"{picture}.png"
    while name in taken:
        name += ".png"
    return name


def _refuse_own_folder(jobs: Sequence[_Job], out: Path) -> None:
    """Overlays must not replace what they are drawn from."""
    overlays = (out / OVERLAYS).resolve()
    for job in jobs:
        if overlays in job.path.resolve().parents or overlays in job.path.absolute().parents:
            raise BadInputError(
                f"{job.path} lies where overlays are written, and could be overwritten: "
                f"give another --out"
            )


def _check_fits(job: _Job, frame: Frame, inspector: Inspector) -> None:
    region = inspector.gate_spec.region_px
    if region is None:
        return
    right, bottom = region.x_px + region.width_px, region.y_px + region.height_px
    if right > frame.size_wh[0] or bottom > frame.size_wh[1]:
        width, height = frame.size_wh
        raise FrameError(
            f"{job.path} is {width}x{height}, but the bundle looks at a region that reaches to "
            f"{right}x{bottom}: give pictures from the station's camera, or --whole to inspect "
            f"each picture as a whole"
        )


def _nothing_seen(frame: Frame, inspector: Inspector) -> Inspection:
    """Silence is not good: a picture in which the gate sees no part gets a verdict too."""
    return Inspection(
        decision="unknown",
        reason="the gate sees no whole part (--whole inspects each picture as a whole)",
        score=None,
        mode=inspector.mode,
        threshold=inspector.cut,
        p_value=None,
        regions=(),
        region=Rect(0, 0, *frame.size_wh),
        anomaly_map=None,
        frame_px_from_map_px=None,
        depth_valid_fraction=None,
        stage_us={},
    )


def _verdict(job: _Job, inspection: Inspection, inspector: Inspector) -> PictureVerdict:
    bundle = inspector.bundle
    return PictureVerdict(
        picture=job.name,
        overlay=job.overlay,
        decision=inspection.decision,
        reason=inspection.reason,
        score=inspection.score,
        threshold=inspection.threshold,
        p_value=inspection.p_value,
        regions=inspection.regions,
        stage_us=inspection.stage_us,
        bundle=WireBundle(id=bundle.manifest.id, sha256=bundle.sha256),
    )
