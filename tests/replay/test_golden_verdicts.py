"""A recording's verdicts, held against what they were when somebody last looked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loupe_edge.replay import replay, station_for
from loupe_edge.station import Station
from loupe_models.bundle import Bundle
from loupe_models.manifest import Mode
from loupe_models.scoring import score_error

GOLDEN = Path(__file__).with_name("golden_verdicts.json")
EXACT = ("seq", "frame_id", "part_id", "decision", "reason", "mode", "depth_valid_fraction")


def verdicts_of(bundle: Bundle, recording: Path, mode: Mode) -> list[dict[str, object]]:
    plain = station_for(bundle.path, recording, mode=mode)
    belt = {"normal": (0.0, 0.0, -1.0), "point_m": (0.0, 0.0, 0.52)}
    station = Station.model_validate(plain.model_dump() | {"belt": belt})
    return [
        {name: getattr(verdict, name) for name in EXACT}
        | {"score": verdict.score, "boxes": [list(r.bbox_px) for r in verdict.regions]}
        for verdict in replay(station)
    ]


@pytest.mark.parametrize("mode", ["rgb", "depth", "rgbd"])
def test_verdicts_are_what_they_were(
    request: pytest.FixtureRequest, tiny_bundle: Bundle, tiny_recording: Path, mode: Mode
) -> None:
    now = verdicts_of(tiny_bundle, tiny_recording, mode)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps(golden | {mode: now}, indent=1) + "\n")
        pytest.skip("golden verdicts rewritten")
    before = golden[mode]
    calibration = tiny_bundle.mode(mode).calibration_scores
    scores = [np.array([v["score"] for v in said], np.float64) for said in (now, before)]
    errors = score_error(scores[0], scores[1], calibration)
    assert errors.max() <= 1e-3
    for v in (*now, *before):
        del v["score"]
    assert now == before
