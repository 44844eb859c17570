"""What one 640 x 480 RGB-D frame costs around `infer`, colour mode and plain-cloud depth mode.

Frames come at the pace of a live camera, so `capture` is our own work on a frame that waits: the
pairing check, depth registered to colour, one copy. Each goes through the service's own stages and
is published over ZeroMQ and journalled.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import stand_in
from harness import Budget, finish, say

from loupe_edge.aggregate import Look
from loupe_edge.bench import quantiles_ms
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.clerk import Clerk
from loupe_edge.engines import open_engine
from loupe_edge.errors import EndOfRecordingError
from loupe_edge.inspector import Inspector
from loupe_edge.journal import JsonlJournal
from loupe_edge.publisher import ZmqPublisher
from loupe_models.bundle import Bundle
from loupe_models.manifest import Mode

N_FRAMES, N_WARM_UP = 240, 20
FRAME_S = 1 / 30
LIMIT_MS = 5.0


def main() -> int:
    """Measure both modes."""
    figures: dict[str, object] = {"n_frames": N_FRAMES, "size": "640x480", "streams": "rgb, depth"}
    budgets = []
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "frames.db3"
        say(f"recording {N_FRAMES + N_WARM_UP} frames")
        stand_in.record(recording, N_FRAMES + N_WARM_UP)
        bundle = stand_in.write(Path(folder) / "bundle")
        modes: tuple[Mode, ...] = ("rgb", "depth")
        for mode in modes:
            say(f"measuring mode {mode}")
            stages = measure(bundle, mode, recording)
            figures[mode] = stages
            p50_ms = stages["all but infer"]["p50_ms"]
            budgets.append(Budget(f"{mode}, all but infer, p50", p50_ms, LIMIT_MS, "ms"))
    return finish("frame_path", figures, budgets)


def measure(bundle: Bundle, mode: Mode, recording: Path) -> dict[str, dict[str, float]]:
    """Give quantiles of every stage, milliseconds."""
    times_us: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        engine = open_engine(bundle, mode)
        stack.callback(engine.close)
        inspector = Inspector(bundle, mode, engine, belt_from_camera=stand_in.BELT)
        camera = RealSenseCamera(CameraSettings(recording=recording, streams=("rgb", "depth")))
        stack.callback(camera.close)
        publisher = ZmqPublisher("tcp://127.0.0.1:*")
        stack.callback(publisher.close)
        journal = JsonlJournal(recording.with_name(f"{mode}.jsonl"))
        stack.callback(journal.close)
        clerk = Clerk("bench", 1, bundle, expires_after_ms=1000, calibration_id=None)
        camera.open()
        due = time.perf_counter()
        while True:
            due += FRAME_S
            time.sleep(max(0.0, due - time.perf_counter()))
            marks = [time.perf_counter()]
            try:
                frame = camera.read()
            except EndOfRecordingError:
                break
            marks.append(time.perf_counter())
            found = inspector.inspect(frame)
            if found is None or found.score is None:
                sys.exit(f"frame {frame.frame_id} was not inspected: the measurement is void")
            marks.append(time.perf_counter())
            verdict = clerk.write(Look(frame, found), 0)
            publisher.publish(verdict)
            marks.append(time.perf_counter())
            journal.append(verdict)
            marks.append(time.perf_counter())
            capture, inspect, publish, keep = ((b - a) * 1e6 for a, b in pairwise(marks))
            spent = {"capture": capture, **found.stage_us, "publish": publish, "journal": keep}
            spent["all but infer"] = capture + inspect + publish + keep - found.stage_us["infer"]
            for stage, us in spent.items():
                times_us[stage].append(us)
    return {stage: quantiles_ms(times[N_WARM_UP:]) for stage, times in times_us.items()}


if __name__ == "__main__":
    sys.exit(main())
