"""How long each stage takes on this machine."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

import numpy as np
from rich.table import Table

from loupe_calibration.errors import BadInputError
from loupe_edge.errors import EndOfRecordingError
from loupe_edge.inspector import Inspector
from loupe_edge.machine import describe_machine
from loupe_edge.proof import golden_frame
from loupe_edge.protocols import Camera
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame

QUANTILES: Final = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
STAGES: Final[tuple[str, ...]] = ("capture", "gate", "preprocess", "infer", "decide", "all but infer", "total")


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

    def document(self, inspector: Inspector) -> dict[str, object]:
        """Give everything that a figure needs to be believed, ready for JSON."""
        bundle = inspector.bundle
        return {
            "bundle": {"id": bundle.manifest.id, "sha256": bundle.sha256},
            "mode": inspector.mode,
            "variant": inspector.variant,
            "n_frames": self.n_frames,
            "n_inspected": self.n_inspected,
            "stages": {name: dict(times) for name, times in self.stages.items()},
            "machine": describe_machine(),
        }


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
    stages = {name: quantiles_ms(times_us[name]) for name in STAGES if name in times_us}
    return BenchReport(n_frames, len(times_us["total"]), stages)


def quantiles_ms(times_us: Iterable[float]) -> dict[str, float]:
    """Give p50, p90 and p99 in milliseconds of times in microseconds."""
    times = np.asarray(list(times_us), np.float64) / 1000
    return {name: round(float(np.quantile(times, q)), 4) for name, q in QUANTILES.items()}


def golden_frames(bundle: Bundle, mode: str, n: int) -> Iterator[Frame]:
    """Give the bundle's own golden frames, over and over, n in all."""
    golden = [golden_frame(bundle, one) for one in bundle.mode(mode).golden]
    return islice(cycle(golden), n)


def camera_frames(camera: Camera, n: int) -> Iterator[Frame]:
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
