"""Does anything grow? 2,000 frames replayed as fast as they come, through the whole service."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import stand_in
from harness import Budget, finish, say

from loupe_edge.camera_settings import CameraSettings
from loupe_edge.machine import open_descriptors, resident_bytes
from loupe_edge.publisher import ZmqPublisher
from loupe_edge.replay import replay
from loupe_edge.station import JournalSettings, RecordSettings, Station

N_FRAMES, N_WARM_UP = 2000, 400
SAMPLE_EVERY = 10


def main() -> int:
    """Replay twice: a short one lets the libraries open what they keep, the long one is judged."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        stand_in.write(place / "bundle")
        for name, n in (("short", 50), ("long", N_FRAMES)):
            say(f"recording {n} frames")
            stand_in.record(place / f"{name}.db3", n)
        soak(place, "short")
        n_open_before = open_descriptors()
        began = time.perf_counter()
        say(f"replaying {N_FRAMES} frames")
        resident_mb = soak(place, "long")
        seconds = time.perf_counter() - began
        n_leaked = open_descriptors() - n_open_before
    slope = slope_mb_per_1000(resident_mb)
    figures = {
        "n_verdicts": len(resident_mb),
        "frames_per_s": round(len(resident_mb) / seconds, 1),
        "resident_mb": {
            "after_warm_up": round(resident_mb[N_WARM_UP], 1),
            "at_end": round(resident_mb[-1], 1),
            "most": round(max(resident_mb), 1),
        },
        "slope_mb_per_1000_frames": round(slope, 3),
        "descriptors_left_open": n_leaked,
    }
    budgets = [
        Budget("verdicts", len(resident_mb), N_FRAMES, "", is_least=True),
        Budget("memory slope", slope, 1.0, "MB per 1,000 frames"),
        Budget("descriptors left open", n_leaked, 0, ""),
    ]
    return finish("soak", figures, budgets)


def soak(place: Path, name: str) -> list[float]:
    """Replay one recording with publisher, journal and evidence; give resident MB by verdict."""
    station = Station(
        station="soak",
        bundle=place / "bundle",
        mode="rgb",
        camera=CameraSettings(recording=place / f"{name}.db3", streams=("rgb", "depth")),
        journal=JournalSettings(path=place / f"{name}.jsonl"),
        record=RecordSettings(folder=place / f"{name}-evidence", max_count=50, max_mb=50),
    )
    publisher = ZmqPublisher("tcp://127.0.0.1:*")
    resident_mb: list[float] = []
    for number, _ in enumerate(replay(station, publisher=publisher)):
        is_due = number % SAMPLE_EVERY == 0
        resident_mb.append(resident_bytes() / 1e6 if is_due else resident_mb[-1])
    publisher.close()
    return resident_mb


def slope_mb_per_1000(resident_mb: list[float]) -> float:
    """Fit a line to the resident memory after the warm-up."""
    after = np.asarray(resident_mb[N_WARM_UP:])
    return float(np.polyfit(np.arange(len(after)) / 1000, after, 1)[0])


if __name__ == "__main__":
    sys.exit(main())
