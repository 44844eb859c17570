"""A verdict as it comes over the wire, for those who read it."""

from __future__ import annotations

STATION = "press-3"


def good_document(seq: int) -> dict[str, object]:
    """Give schema 1 of a good part; times count from the moment of its capture."""
    return {
        "schema": 1,
        "station": STATION,
        "epoch": 7,
        "seq": seq,
        "part_id": None,
        "frame_id": seq,
        "captured_at_ns": 0,
        "published_at_ns": 20_000_000,
        "expires_at_ns": 500_000_000,
        "camera_time": {"ns": seq, "domain": "system"},
        "decision": "good",
        "reason": "",
        "score": 0.5,
        "threshold": 1.0,
        "p_value": 0.25,
        "mode": "rgb",
        "regions": [],
        "sync": None,
        "depth_valid_fraction": None,
        "stage_us": {"infer": 9000},
        "dropped_frames": 0,
        "bundle": {"id": "b", "sha256": "0" * 64},
        "calibration_id": None,
    }
