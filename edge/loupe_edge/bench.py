"""How long each stage takes on this machine."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import numpy as np
from rich.table import Table

from loupe_calibration.errors import BadInputError
from loupe_edge.assembly import open_inspector
from loupe_edge.camera import RealSenseCamera
from loupe_edge.engine_settings import REFERENCE, EngineSettings
from loupe_edge.errors import EndOfRecordingError, NoRuntimeError
from loupe_edge.inspector import Inspector
from loupe_edge.machine import describe_machine
from loupe_edge.proof import golden_frame
from loupe_edge.protocols import Camera
from loupe_edge.proved import open_proved
from loupe_edge.replaying import Request, station_of
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.errors import BundleError
from loupe_models.frame import Frame
from loupe_models.manifest import Mode

Frames = Generator[Frame, None, None]
QUANTILES: Final = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
WORK: Final = ("gate", "preprocess", "infer", "decide")  # what a live loop does a frame
STAGES: Final[tuple[str, ...]] = (
    "capture",
    "gate",
    "preprocess",
    "infer",
    "decide",
    "all but infer",
    "total",
)


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What to time.

    Attributes:
        recording: None times the bundle's own golden frames.
        mode: Needed only where the bundle serves several.
        engine: Which of the mode's graphs, and what runs it.
    """

    bundle: Path
    recording: Path | None = None
    mode: Mode | None = None
    engine: EngineSettings = REFERENCE
    n_frames: int = 200
    n_warm_up: int = 20


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Stage times over many frames.

    Attributes:
        n_frames: After the warm-up.
        n_inspected: In how many of them the gate saw a part; only these are timed.
        stages: Quantiles by stage, milliseconds.
    """

    n_frames: int
    n_inspected: int
    stages: Mapping[str, Mapping[str, float]]

    @property
    def frames_per_second(self) -> float:
        """How many frames a second one loop gets through, half the time or more."""
        spent = sum(self.stages[name]["p50_ms"] for name in WORK if name in self.stages)
        return round(1000 / spent, 1)

    def document(self, inspector: Inspector, request: BenchRequest) -> dict[str, object]:
        """Give everything that a figure needs to be believed, ready for JSON.

        `row` is the line for the table in `benchmarks/README.md`.
        """
        bundle = inspector.bundle
        machine = describe_machine()
        return {
            "row": self._row(inspector, request.engine, machine),
            "bundle": {"id": bundle.manifest.id, "sha256": bundle.sha256},
            "mode": inspector.mode,
            "variant": inspector.variant,
            "engine": request.engine.kind,
            "threads": request.engine.threads,
            "front": request.engine.front,
            "frames_per_second": self.frames_per_second,
            "n_frames": self.n_frames,
            "n_inspected": self.n_inspected,
            "stages": {name: dict(times) for name, times in self.stages.items()},
            "machine": machine,
        }

    def _row(
        self, inspector: Inspector, engine: EngineSettings, machine: Mapping[str, object]
    ) -> str:
        infer, rest = self.stages["infer"], self.stages["all but infer"]
        method = inspector.bundle.manifest.method
        cells = [
            _device(machine, engine),
            machine.get("power_mode", ""),
            f"{engine.kind} {engine.variant}{', GPU front' if engine.front == 'gpu' else ''}",
            f"{method} {inspector.mode}",
            *(f"{infer[name]:.2f}" for name in QUANTILES),
            f"{rest['p50_ms']:.2f}",
            self.frames_per_second,
            "",  # the device's floor, which the device does not know
        ]
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _device(machine: Mapping[str, object], engine: EngineSettings) -> object:
    """Name what computes, as it is bought: the board, else TensorRT's GPU, else the processor."""
    gpu = machine.get("gpu") if engine.kind == "tensorrt" else None
    return machine.get("board") or gpu or machine["cpu"]


def bench(request: BenchRequest) -> tuple[Inspector, BenchReport]:
    """Prove the bundle here, then time it.

    Returns:
        The inspector that was timed, its engine closed, and the report.

    Raises:
        BadInputError: Bundle or recording cannot be used, or no frame was inspected.
        FaultError: The bundle is not proved here.
    """
    with ExitStack() as stack:
        try:
            inspector, frames = _open(request, stack)
        except NoRuntimeError as error:
            raise BadInputError(f"{error}, or choose --engine onnxruntime") from error
        with closing(frames):
            return inspector, measure(inspector, frames, request.n_warm_up)


def _open(request: BenchRequest, stack: ExitStack) -> tuple[Inspector, Frames]:
    n = request.n_warm_up + request.n_frames
    if request.recording is None:
        inspector = _open_golden(request, stack)
        return inspector, golden_frames(inspector.bundle, inspector.mode, n)
    station = station_of(Request(request.bundle, request.recording, request.mode))
    station = station.model_copy(update={"engine": request.engine})
    bundle = load_bundle(station.bundle)
    bundle.variant(station.mode, request.engine.variant)  # refused before a station's key is named
    inspector = open_inspector(station, bundle, stack)
    return inspector, camera_frames(RealSenseCamera(station.camera), n)


def _open_golden(request: BenchRequest, stack: ExitStack) -> Inspector:
    bundle = load_bundle(request.bundle)
    served = list(bundle.manifest.modes)
    if request.mode is None and len(served) > 1:
        raise BundleError(f"{request.bundle} serves {', '.join(served)}: say which with --mode")
    mode = request.mode or served[0]
    engine = stack.enter_context(open_proved(bundle, mode, request.engine)).engine
    variant = request.engine.variant
    belt = bundle.mode(mode).golden[0].belt_from_camera
    return Inspector(
        bundle, mode, engine, belt_from_camera=belt, min_depth_valid=0.0, variant=variant
    )


def measure(inspector: Inspector, frames: Iterable[Frame], n_warm_up: int) -> BenchReport:
    """Inspect frames one after another and time every stage of each.

    Args:
        inspector: Proved or not; the first frames warm it up.
        frames: As the camera gives them; the time to give one is the stage `capture`.
        n_warm_up: Frames at the start that are not counted.

    Raises:
        BadInputError: The gate saw no part in any frame, so there is nothing to time.
    """
    times_us: dict[str, list[float]] = defaultdict(list)
    n_frames = 0
    began_ns = time.perf_counter_ns()
    for number, frame in enumerate(frames):
        given_ns = time.perf_counter_ns()
        found = inspector.inspect(frame)
        n_frames += number >= n_warm_up
        if found is not None and number >= n_warm_up:
            spent = {"capture": (given_ns - began_ns) / 1e3, **found.stage_us}
            for stage, spent_us in spent.items():
                times_us[stage].append(spent_us)
            times_us["total"].append(sum(spent.values()))
            times_us["all but infer"].append(sum(spent.values()) - spent.get("infer", 0))
        began_ns = time.perf_counter_ns()
    if not times_us:
        raise BadInputError(
            "no frame was inspected: give more frames than the warm-up, with parts in them"
        )
    by_stage = {name: quantiles_ms(times_us[name]) for name in STAGES if name in times_us}
    return BenchReport(n_frames, len(times_us["total"]), by_stage)


def quantiles_ms(times_us: Iterable[float]) -> dict[str, float]:
    """Give p50, p90 and p99 in milliseconds of times in microseconds."""
    times = np.asarray(list(times_us), np.float64) / 1000
    return {name: round(float(np.quantile(times, q)), 4) for name, q in QUANTILES.items()}


def golden_frames(bundle: Bundle, mode: str, n: int) -> Frames:
    """Give the bundle's own golden frames, over and over, n in all."""
    golden = [golden_frame(bundle, one) for one in bundle.mode(mode).golden]
    yield from islice(cycle(golden), n)


def camera_frames(camera: Camera, n: int) -> Frames:
    """Give at most n frames of a camera, which is opened and closed here."""
    try:
        camera.open()
        for _ in range(n):
            yield camera.read()
    except EndOfRecordingError:
        return
    finally:
        camera.close()


def bench_table(report: BenchReport, title: str) -> Table:
    """Lay the report out for a terminal."""
    table = Table(title=title, title_justify="left")
    table.add_column("stage", style="bold")
    for name in QUANTILES:
        table.add_column(name.replace("_", " "), justify="right")
    for stage, times in report.stages.items():
        table.add_row(stage, *(f"{times[name]:.2f}" for name in QUANTILES))
    return table
