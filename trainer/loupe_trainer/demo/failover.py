"""The second act: one bundle of three modes, and a camera whose depth goes off and comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from loupe_edge.engines import open_engine
from loupe_edge.inspector import Inspector
from loupe_edge.labels import belt_path, read_mask
from loupe_edge.simulate import read_belt
from loupe_edge.verdict import Verdict
from loupe_models.atomic import write_text
from loupe_models.bundle import load_bundle
from loupe_trainer.data.recording import read_frames
from loupe_trainer.demo.acts import SecondAct
from loupe_trainer.demo.outcome import Outcome
from loupe_trainer.demo.pictures import Views, draw_views
from loupe_trainer.run import RunFolder

RETURN_AFTER_FRAMES = 5
STATION = """\
station = "demo"
bundle = "{bundle}"
mode = "rgbd"

[camera]
recording = "{recording}"
streams = ["rgb", "depth"]

[belt]
file = "{belt}"

[failover]
modes = ["rgb"]
return_after_frames = {return_after}
"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Verdicts in a row that one mode gave, for one reason.

    Attributes:
        why: Why it was not the preferred mode; empty where it was.
        decisions: How many verdicts were what.
    """

    mode: str
    why: str
    decisions: Mapping[str, int]


def write_station(path: Path, bundle: Path, recording: Path) -> None:
    """Write the settings of a station that falls back to colour."""
    place = path.resolve().parent
    named = {
        name: file.resolve().relative_to(place)
        for name, file in (
            ("bundle", bundle), ("recording", recording), ("belt", belt_path(recording))
        )
    }  # fmt: skip
    write_text(path, STATION.format(**named, return_after=RETURN_AFTER_FRAMES))


def stretches(verdicts: tuple[Verdict, ...]) -> list[Stretch]:
    """Cut a stream of verdicts where the mode changes, or the reason for it."""
    found: list[tuple[str, str, Counter[str]]] = []
    for verdict in verdicts:
        why = why_not_preferred(verdict)
        if not found or found[-1][:2] != (verdict.mode, why):
            found.append((verdict.mode, why, Counter()))
        found[-1][2][verdict.decision] += 1
    return [Stretch(mode, why, dict(counts)) for mode, why, counts in found]


def why_not_preferred(verdict: Verdict) -> str:
    """Give the part of a verdict's reason that speaks of modes, without its counter."""
    told = next((part for part in verdict.reason.split("; ") if " instead of " in part), "")
    return "waiting until depth is believed" if ": well for " in told else told.split(": ")[-1]


def show_failover(run: RunFolder, recording: Path, outcome: Outcome) -> SecondAct:
    """Draw every part as the mode in force saw it.

    Args:
        run: Whose bundle was replayed.
        recording: What it was replayed on.
        outcome: What the subscriber received.
    """
    bundle, belt = load_bundle(run.bundle), read_belt(recording)
    top_frames = {part.verdict.frame_id: part for part in outcome.parts}
    modes = sorted({part.verdict.mode for part in outcome.parts})
    engines = {mode: open_engine(bundle, mode) for mode in modes}
    inspectors = {
        mode: Inspector(bundle, mode, engine, belt_from_camera=belt)
        for mode, engine in engines.items()
    }
    views: dict[str, Views] = {}
    n_frames = 0
    with closing(read_frames(recording, ("rgb", "depth"), required=("rgb",))) as frames:
        for frame in frames:
            n_frames += 1
            part = top_frames.get(frame.frame_id)
            if part is None or frame.label is None:
                continue
            inspection = inspectors[part.verdict.mode].inspect(frame)
            if inspection is not None:
                mask = read_mask(recording, frame.label)
                views[part.part_id] = draw_views(frame, inspection, mask, belt)
    for engine in engines.values():
        engine.close()
    return SecondAct(outcome, views, n_frames)
