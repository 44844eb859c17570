"""What may go over the wire, and what can never be said."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from loupe_edge.clerk import Clerk
from loupe_edge.verdict import Heartbeat, Verdict
from loupe_models.bundle import Bundle

MakeVerdict = Callable[..., Verdict]


@pytest.mark.parametrize(
    "fields",
    [
        {"decision": "good", "score": None},
        {"decision": "good", "score": 1.5},
        {"decision": "defect", "score": None},
        {"decision": "defect", "score": 1.0},
        {"decision": "unknown", "reason": " "},
        {"seq": True},
        {"seq": "1"},
        {"seq": -1},
        {"epoch": 2**63},
        {"score": "0.5"},
        {"score": False},
        {"frame_id": 1.0},
        {"part_id": "\ud800"},
        {"camera_time": {"ns": 2**63, "domain": "system"}},
        {"stage_us": {"infer": -1}},
        {"regions": [{"bbox_px": [-1, 0, 5, 5], "area_px": 5, "peak": 1.0}]},
        {"regions": [{"bbox_px": [0, 0, 10**400, 5], "area_px": 5, "peak": 1.0}]},
        {"schema": True},
    ],
)
def test_nonsense_is_no_verdict(make_verdict: MakeVerdict, fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make_verdict(**fields)


def test_a_score_at_the_threshold_is_good(make_verdict: MakeVerdict) -> None:
    assert make_verdict(decision="good", score=1.0, threshold=1.0).decision == "good"


def test_a_late_answer_is_unknown_and_keeps_its_score(make_verdict: MakeVerdict) -> None:
    late = make_verdict(decision="unknown", reason="missed the deadline", score=5.0)
    assert late.score == 5.0


def test_a_reason_with_the_odd_bytes_of_a_file_name_can_be_said(tiny_bundle: Bundle) -> None:
    clerk = Clerk("line-1", 1, tiny_bundle, expires_after_ms=10, calibration_id=None)
    verdict = clerk.write_trouble("no file a\udcff.db3", "rgb", 1.0, 0)
    assert "a\\udcff.db3" in verdict.reason
    assert verdict.model_dump_json()


def test_a_heartbeat_is_as_strict() -> None:
    beat = {"station": "a", "epoch": 1, "seq": -1, "state": "ready", "reason": "", "at_ns": 1}
    assert Heartbeat.model_validate(beat).seq == -1
    for wrong in ({"seq": -2}, {"seq": True}, {"at_ns": 10**30}, {"reason": "\ud800"}):
        with pytest.raises(ValidationError):
            Heartbeat.model_validate(beat | wrong)
