"""What a 640 x 480 RGB-D frame may cost outside the network, and what the loop may leave behind."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.deproject import deproject
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.aggregate import Look
from loupe_edge.assembly import open_service
from loupe_edge.clerk import Clerk
from loupe_edge.fakes import FunctionEngine, ListCamera
from loupe_edge.inspector import Inspector
from loupe_edge.journal import JsonlJournal
from loupe_edge.protocols import Outputs
from loupe_edge.publisher import ZmqPublisher
from loupe_edge.realsense import load_sdk
from loupe_edge.station import Station
from loupe_edge.stopwatch import Stopwatch
from loupe_models.bundle import Bundle
from loupe_models.frame import CameraTime, Frame, Rect, Sync
from loupe_models.gate import ByColour, ByHeight, GateSpec
from loupe_models.groups import group_points
from loupe_models.manifest import Mode
from loupe_models.points import grid_points, sample_farthest
from loupe_models.preprocess import Cloud, Crop, PreprocessSpec, RemoveBelt, Resize

# stage, p50 in ms, mean in ms: of the quietest batch, on two slow cores. A machine that is busy
# with other things gets several tries; code that is too slow fails them all.
BUDGETS = {
    "rgb": (
        ("gate", 0.4, 0.8),
        ("preprocess", 2.5, 5.0),
        ("decide", 0.2, 0.4),
        ("write", 0.2, 0.4),
        ("publish", 0.1, 0.3),
        ("journal", 0.1, 0.3),
        ("all", 3.0, 6.0),
    ),
    "rgbd": (
        ("gate", 0.4, 0.8),
        ("preprocess", 4.0, 8.0),
        ("decide", 0.2, 0.4),
        ("write", 0.2, 0.4),
        ("publish", 0.1, 0.3),
        ("journal", 0.1, 0.3),
        ("all", 4.5, 9.0),
    ),
}
DEPROJECT_MS = 0.5
GROUPS_MS = 60.0
MOST_BATCHES, N_FRAMES = 20, 30
INTRINSICS = Intrinsics(640, 480, 600.0, 600.0, 319.5, 239.5)
MB = 1 << 20


def large_frame(seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(90, 160, (480, 640, 3), dtype=np.uint8)
    depth = rng.integers(4950, 5050, (480, 640)).astype(np.uint16)
    depth[rng.random(depth.shape) < 0.05] = 0
    return Frame(
        frame_id=seed,
        captured_at_ns=time.time_ns(),
        camera_time=CameraTime(0, "hardware"),
        rgb=rgb,
        depth=depth,
        depth_scale_m=0.0001,
        intrinsics=INTRINSICS,
        sync=Sync(0, "hardware"),
    )


def large_inspector(bundle: Bundle, mode: Mode, belt: Transform) -> Inspector:
    """The bundle's thresholds around a network of no cost and the steps of a real recipe."""
    anomaly_map = np.zeros((1, 1, 256, 256), np.float32)
    outputs: Outputs = {"anomaly_map": anomaly_map, "image_score": np.zeros(1, np.float32)}
    occupied = ByColour(belt_rgb=(20, 20, 20)) if mode == "rgb" else ByHeight(min_height_m=0.01)
    gate = GateSpec(region_px=Rect(40, 20, 560, 440), occupied=occupied)
    inspector = Inspector(
        bundle, mode, FunctionEngine(lambda _: outputs), gate=gate, belt_from_camera=belt
    )
    resize = Resize(width_px=256, height_px=256)
    spec = (
        PreprocessSpec(steps=(Crop(), resize), tensors=("rgb",))
        if mode == "rgb"
        else PreprocessSpec(
            steps=(Crop(), resize, Cloud(), RemoveBelt()), tensors=("rgb", "xyz", "valid")
        )
    )
    inspector.contract = inspector.contract.model_copy(update={"preprocess": spec})
    return inspector


def time_stages(inspector: Inspector, folder: Path, frames: list[Frame]) -> list[dict[str, int]]:
    clerk = Clerk("line-1", 1, inspector.bundle, expires_after_ms=1000, calibration_id="belt-0")
    publisher = ZmqPublisher(f"ipc://{folder}/verdicts")
    journal = JsonlJournal(folder / "journal.jsonl")
    rows = []
    for frame in frames:
        found = inspector.inspect(frame)
        assert found is not None
        assert found.decision == "good"
        watch = Stopwatch()
        with watch.stage("write"):
            verdict = clerk.write(Look(frame, found), 0)
        with watch.stage("publish"):
            publisher.publish(verdict)
        with watch.stage("journal"):
            journal.append(verdict)
        rows.append({k: v for k, v in found.stage_us.items() if k != "infer"} | watch.stage_us)
        rows[-1]["all"] = sum(rows[-1].values())
    publisher.close()
    journal.close()
    return rows


@pytest.mark.parametrize("mode", ["rgb", "rgbd"])
def test_everything_but_the_network_is_within_its_budget(
    tiny_bundle: Bundle,
    tiny_belt: Transform,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    mode: Mode,
) -> None:
    inspector = large_inspector(tiny_bundle, mode, tiny_belt)
    frames = [large_frame(i) for i in range(N_FRAMES)]
    time_stages(inspector, tmp_path, frames[:5])
    best: dict[str, tuple[float, float]] = {}
    for _ in range(MOST_BATCHES):
        rows = time_stages(inspector, tmp_path, frames)
        for stage, _, _ in BUDGETS[mode]:
            ms = np.array([row[stage] / 1000 for row in rows])
            p50, mean = best.get(stage, (np.inf, np.inf))
            best[stage] = (min(p50, float(np.median(ms))), min(mean, float(ms.mean())))
        over = [
            stage
            for stage, p50_budget, mean_budget in BUDGETS[mode]
            if best[stage][0] > p50_budget or best[stage][1] > mean_budget
        ]
        if not over:
            break
    with capsys.disabled():
        print(f"\n{mode}: stage, p50 ms (budget), mean ms (budget)")  # noqa: T201
        for stage, p50_budget, mean_budget in BUDGETS[mode]:
            p50, mean = best[stage]
            print(  # noqa: T201
                f"  {stage:<11}{p50:7.3f} ({p50_budget})  {mean:7.3f} ({mean_budget})"
            )
    assert over == []


def test_deprojecting_a_frame_takes_half_a_millisecond() -> None:
    depth = large_frame().depth
    assert depth is not None

    def once() -> float:
        start = time.perf_counter()
        deproject(depth, INTRINSICS, 0.0001)
        return (time.perf_counter() - start) * 1000

    once()
    batches = [[once() for _ in range(20)] for _ in range(MOST_BATCHES)]
    assert min(float(np.median(batch)) for batch in batches) <= DEPROJECT_MS


def test_sampling_and_grouping_sixteen_thousand_points() -> None:
    v, u = np.mgrid[:128, :128]
    uneven = np.random.default_rng(0).normal(0, 0.0003, u.shape)
    xyz = np.stack([u * 0.001, v * 0.001, 0.03 + 0.01 * np.sin(u / 9) + uneven], axis=-1)
    cloud, valid = xyz.astype(np.float32), np.ones(u.shape, np.uint8)

    def once() -> float:
        start = time.thread_time()  # it all runs in this thread, so others' turns do not count
        group_points(cloud, valid, sample_farthest(grid_points(cloud, valid), 1024), 128)
        return (time.thread_time() - start) * 1000

    once()
    assert any(once() <= GROUPS_MS for _ in range(MOST_BATCHES))


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_two_thousand_frames_leave_nothing_behind(
    make_station: Callable[..., Station], make_frame: Callable[..., Frame], tmp_path: Path
) -> None:
    n_frames, n_warm_up = 2000, 500
    kinds = itertools.cycle(["good"] * 18 + ["defect", "empty"])

    def frames() -> Iterator[Frame]:
        for i in range(n_frames):
            yield make_frame(next(kinds), i % 50, ("rgb", "depth"), i)

    station = make_station(
        "rgbd",
        journal={"path": tmp_path / "journal.jsonl"},
        record={"folder": tmp_path / "evidence", "max_count": 20},
    )
    load_sdk()  # whose log opens a file for the rest of the process
    files = open_files()
    at: list[int] = []
    resident: list[int] = []
    with open_service(station, lock_step=True, camera=ListCamera(frames())) as service:
        for verdict in service.verdicts():
            if verdict.seq >= n_warm_up and verdict.seq % 20 == 0:
                at.append(verdict.seq)
                resident.append(resident_bytes())
    assert verdict.seq + 1 == n_frames * 19 // 20
    assert slope_mb_per_thousand(at, resident) <= 1.0
    assert open_files() <= files


def slope_mb_per_thousand(at: list[int], resident: list[int]) -> float:
    x: npt.NDArray[np.float64] = np.array(at, np.float64)
    return float(np.polyfit(x, np.array(resident, np.float64) / MB, 1)[0]) * 1000
