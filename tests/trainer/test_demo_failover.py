"""The demo's second act: what is said of modes, and the station it is played at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from wire import good_document

from loupe_edge.station import load_station
from loupe_edge.verdict import Verdict
from loupe_trainer.demo.failover import Stretch, stretches, why_not_preferred, write_station


def verdict(mode: str, decision: str = "good", reason: str = "") -> Verdict:
    score = {"good": 0.5, "defect": 1.5, "unknown": None}[decision]
    told = good_document(0) | {"mode": mode, "decision": decision, "reason": reason, "score": score}
    return Verdict.model_validate(told)


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("", ""),
        ("score above threshold", ""),
        ("rgb instead of rgbd: no depth", "no depth"),
        ("score above threshold; rgb instead of rgbd: no depth", "no depth"),
        ("rgb instead of rgbd: well for 2 of 5 frames", "waiting until depth is believed"),
    ],
)
def test_the_reason_for_a_mode_is_told_without_its_counter(reason: str, why: str) -> None:
    assert why_not_preferred(verdict("rgb", reason=reason)) == why


def test_a_stretch_ends_where_the_mode_or_its_reason_changes() -> None:
    off, waits = "rgb instead of rgbd: no depth", "rgb instead of rgbd: well for {} of 5 frames"
    stream = (
        verdict("rgbd"), verdict("rgbd", "defect", "score above threshold"),
        verdict("rgb", reason=off), verdict("rgb", reason=waits.format(1)),
        verdict("rgb", "unknown", waits.format(2)), verdict("rgbd"),
    )  # fmt: skip
    assert stretches(stream) == [
        Stretch("rgbd", "", {"good": 1, "defect": 1}),
        Stretch("rgb", "no depth", {"good": 1}),
        Stretch("rgb", "waiting until depth is believed", {"good": 1, "unknown": 1}),
        Stretch("rgbd", "", {"good": 1}),
    ]


def test_the_station_falls_back_to_colour(tmp_path: Path) -> None:
    (tmp_path / "run" / "bundle").mkdir(parents=True)
    (tmp_path / "fails.db3").touch()
    belt = {"rotation": np.eye(3).tolist(), "translation_m": [0, 0, 0.3]}
    (tmp_path / "fails.belt.json").write_text(json.dumps(belt))
    file = tmp_path / "station.toml"
    write_station(file, tmp_path / "run" / "bundle", tmp_path / "fails.db3")
    station = load_station(file)
    assert station.mode == "rgbd"
    assert station.failover is not None
    assert station.failover.modes == ("rgb",)
    assert station.bundle == tmp_path / "run" / "bundle"
    assert station.camera.recording == tmp_path / "fails.db3"
