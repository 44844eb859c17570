"""A look at a part that says good, for those who draw it or count its time."""

from __future__ import annotations

from typing import Any

from loupe_edge.inspector import Inspection
from loupe_models.frame import Rect


def good_look(**fields: Any) -> Inspection:
    """Give one without a map, but for the fields that are named."""
    usual: dict[str, Any] = {
        "decision": "good", "reason": "", "score": 0.0, "mode": "rgb", "threshold": 1.0,
        "p_value": 0.5, "regions": (), "region": Rect(0, 0, 1, 1), "anomaly_map": None,
        "frame_px_from_map_px": None, "depth_valid_fraction": None, "stage_us": {},
    }  # fmt: skip
    return Inspection(**(usual | fields))
