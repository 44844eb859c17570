"""Draw the demo's pictures: the recording once more, through the same camera and inspector."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from loupe_edge.engines import open_engine
from loupe_edge.inspector import Inspector
from loupe_edge.labels import read_mask
from loupe_edge.simulate import read_belt
from loupe_models.bundle import load_bundle
from loupe_models.preprocess import preprocess
from loupe_trainer.data.recording import read_frames
from loupe_trainer.demo.acts import FirstAct
from loupe_trainer.demo.outcome import Outcome, colour_auroc
from loupe_trainer.demo.pictures import Picture, Views, draw_line, draw_views
from loupe_trainer.gaussian_baseline import GaussianBaseline
from loupe_trainer.learn import BASELINE
from loupe_trainer.run import RunFolder

MODE = "rgb"


def show(run: RunFolder, recording: Path, outcome: Outcome) -> FirstAct:
    """Draw every part.

    Args:
        run: Whose bundle was replayed.
        recording: What it was replayed on.
        outcome: What the subscriber received.
    """
    bundle = load_bundle(run.bundle)
    baseline = GaussianBaseline.load(run.export / BASELINE)
    belt = read_belt(recording)
    engine = open_engine(bundle, MODE)
    inspector = Inspector(bundle, MODE, engine, belt_from_camera=belt)
    top_frames = {part.verdict.frame_id: part for part in outcome.parts}
    views: dict[str, Views] = {}
    lines: list[tuple[float, Picture]] = []
    gaussian: dict[str, float] = {}
    with closing(engine), closing(read_frames(recording, ("rgb", "depth"))) as frames:
        for frame in frames:
            inspection = inspector.inspect(frame)
            if inspection is None or frame.part_id is None:
                continue
            prepared = preprocess(frame, inspection.region, inspector.contract.preprocess, belt)
            score = baseline.score(prepared.tensors["rgb"].astype(np.uint8, copy=False))
            gaussian[frame.part_id] = max(score, gaussian.get(frame.part_id, score))
            part = top_frames.get(frame.frame_id)
            if part is not None and frame.label is not None:
                mask = read_mask(recording, frame.label)
                views[part.part_id] = draw_views(frame, inspection, mask, belt)
                if part.decision == part.label.kind == "defect":
                    lines.append((part.score or 0.0, draw_line(frame, inspection, belt)))
    line = max(lines, key=lambda scored: scored[0])[1]
    return FirstAct(outcome, views, line, colour_auroc(gaussian, outcome))
