"""Preprocessing on the GPU against numpy's, kernel by kernel against its floor. Needs a GPU."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import gpu_floors
import numpy as np
from harness import Budget, finish, paired_ratio, say, take_turns

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.errors import LoupeError
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.bench import quantiles_ms
from loupe_edge.cuda.context import (
    ORDINAL,
    CudaObject,
    PrimaryContext,
    gpu_arch,
    load_pycuda,
)
from loupe_edge.cuda.device import Argument, PyCudaDevice
from loupe_edge.cuda.front import GpuFront
from loupe_edge.cuda.kernels import cached_cubin
from loupe_edge.errors import StationError
from loupe_models.frame import CameraTime, Frame, Rect
from loupe_models.preprocess import PreprocessSpec, preprocess

N_ROUNDS, N_WARM_UP = 200, 20
SIDE_PX = 128
BELT = belt_from_camera((0, 0, -1), (0, 0, 0.6))
REGION = Rect(0, 0, 640, 480)
WITH_COPIES = "gpu with copies"
NO_GPU = "this benchmark measures kernels on an NVIDIA GPU, and there is none here"

GROUPED = ["xyz", "valid", "groups", "centres", "nn_index", "nn_weight"]
SPECS: dict[str, dict[str, Any]] = {
    gpu_floors.COLOUR: {
        "steps": [{"step": "resize", "width_px": 256, "height_px": 256}],
        "tensors": ["rgb"],
    },
    gpu_floors.CLOUD: {
        "steps": [{"step": "cloud"}, {"step": "remove_belt"}],
        "tensors": ["xyz", "valid"],
    },
    gpu_floors.GROUPS: {
        "steps": [
            {"step": "resize", "width_px": SIDE_PX, "height_px": SIDE_PX},
            {"step": "cloud"},
            {"step": "sample_points", "n_points": gpu_floors.N_CENTRES},
            {"step": "group", "size": gpu_floors.SIZE},
        ],
        "tensors": GROUPED,
    },
}


class TimedDevice(PyCudaDevice):
    """Marks the stream before and after each kernel, while it is asked to."""

    def __init__(self, cuda: ModuleType, stream: CudaObject, cubin: bytes) -> None:
        super().__init__(stream, cubin)
        self._driver, self._marked = cuda, stream
        self._marks: list[tuple[str, CudaObject, CudaObject]] | None = None

    def launch(
        self, kernel: str, grid: tuple[int, int], block: tuple[int, int], *arguments: Argument
    ) -> None:
        """Launch between two events."""
        if self._marks is None:
            super().launch(kernel, grid, block, *arguments)
            return
        before, after = self._driver.Event(), self._driver.Event()
        before.record(self._marked)
        super().launch(kernel, grid, block, *arguments)
        after.record(self._marked)
        self._marks.append((kernel, before, after))

    def kernels_ms(self, run: Callable[[], object]) -> list[tuple[str, float]]:
        """Run once, and give each kernel's time by the stream's own clock."""
        marks: list[tuple[str, CudaObject, CudaObject]] = []
        self._marks = marks
        run()
        self._marks = None
        self._marked.synchronize()
        return [(kernel, before.time_till(after)) for kernel, before, after in marks]


def main() -> int:
    """Check that both make the same tensors, then measure both in turns."""
    try:
        with device() as (timed, name):
            return measure(timed, name)
    except LoupeError as error:
        say(str(error))
        return 2


@contextmanager
def device() -> Iterator[tuple[TimedDevice, str]]:
    """Own the primary context while the benchmark runs."""
    try:
        primary = PrimaryContext()
    except LoupeError as error:
        raise StationError(f"{NO_GPU}: {error}") from error
    with closing(primary):
        cuda = load_pycuda()
        with TemporaryDirectory() as cache:
            cubin = cached_cubin(gpu_arch(), Path(cache))
        yield TimedDevice(cuda, cuda.Stream(), cubin), cuda.Device(ORDINAL).name()


def measure(timed: TimedDevice, name: str) -> int:
    """Time every specification, and each kernel in it."""
    front, frame = GpuFront(timed), exposure()
    figures: dict[str, object] = {"gpu": name}
    budgets = []
    for title, document in SPECS.items():
        spec = PreprocessSpec.model_validate(document)
        check_equal(title, front, frame, spec)
        on_gpu = partial(front.preprocess, frame, REGION, spec, BELT)
        sides = {"numpy": partial(preprocess, frame, REGION, spec, BELT), WITH_COPIES: on_gpu}
        times_us = take_turns(sides, N_ROUNDS, N_WARM_UP)
        kernels = kernel_times(timed, on_gpu)
        figures[title] = {side: quantiles_ms(spent) for side, spent in times_us.items()} | {
            "kernels": kernels
        }
        ratio = paired_ratio(times_us, WITH_COPIES, "numpy")
        budgets.append(Budget(f"{title}: GPU with copies over numpy, p50", ratio, 1.0, ""))
    front.close()
    figures["floors"] = [
        {"kernel": one.kernel, "bytes": one.n_bytes, "operations": one.n_operations}
        for one in gpu_floors.floors()
    ]
    return finish("gpu_front", figures, budgets)


def exposure() -> Frame:
    """An uneven surface above the belt without holes, and noise for colour."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[:480, :640]
    depth = 5500 + 100 * np.sin(u / 40) + 60 * np.cos(v / 30) + rng.normal(0, 3, u.shape)
    rgb = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    lens = Intrinsics(640, 480, 600.0, 600.0, 319.5, 239.5)
    stamp = CameraTime(0, "system")
    return Frame(0, 0, stamp, rgb, depth.astype(np.uint16), 0.0001, lens)


def check_equal(title: str, front: GpuFront, frame: Frame, spec: PreprocessSpec) -> None:
    """A faster wrong answer is not faster."""
    ours = front.preprocess(frame, REGION, spec, BELT).tensors
    for name, right in preprocess(frame, REGION, spec, BELT).tensors.items():
        away = np.abs(ours[name].astype(np.float64) - right.astype(np.float64)).max()
        if away > (1e-5 if name == "xyz" else 0):
            sys.exit(f"{title}: {name} differs by {away:.2g}")


def kernel_times(timed: TimedDevice, run: Callable[[], object]) -> dict[str, dict[str, float]]:
    """Time each kernel, in milliseconds."""
    spent_us: dict[str, list[float]] = defaultdict(list)
    for _ in range(N_ROUNDS):
        for kernel, spent_ms in timed.kernels_ms(run):
            spent_us[kernel].append(1e3 * spent_ms)
    return {kernel: quantiles_ms(times_us) for kernel, times_us in spent_us.items()}


if __name__ == "__main__":
    sys.exit(main())
