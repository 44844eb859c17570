"""Depth moved to the colour grid at 640 x 480: ours and librealsense's `align`, side by side."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import stand_in
from harness import Budget, finish

from loupe_calibration.registration import Registration
from loupe_edge.bench import quantiles_ms
from loupe_edge.realsense import SdkObject, load_sdk

N_ROUNDS, N_WARM_UP = 200, 20
MOST_OF_ALIGN = 0.75


def main() -> int:
    """Measure both on one exposure, in turns, so that they share the machine's moods."""
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "frames.db3"
        stand_in.record(recording, 5)
        sdk = load_sdk()
        pipeline, config = sdk.pipeline(), sdk.config()
        config.enable_device_from_file(str(recording), repeat_playback=False)
        pipeline.start(config)
        try:
            figures = compare(pipeline.wait_for_frames(5000), sdk.align(sdk.stream.color))
        finally:
            pipeline.stop()
    ratio = figures["ours"]["p50_ms"] / figures["librealsense"]["p50_ms"]
    budget = Budget("ours over librealsense's align, p50", ratio, MOST_OF_ALIGN, "")
    return finish("register", {**figures, "ours_over_align": round(ratio, 3)}, [budget])


def compare(frameset: SdkObject, align: SdkObject) -> dict[str, dict[str, float]]:
    """Time both on the same pixels, and tell how far each median lies from the part's surface."""
    registration = Registration(
        stand_in.DEPTH, stand_in.RGB, stand_in.RGB_FROM_DEPTH, stand_in.DEPTH_SCALE_M
    )
    depth = np.array(frameset.get_depth_frame().get_data(), np.uint16)

    def aligned() -> npt.NDArray[np.uint16]:
        return np.asarray(align.process(frameset).get_depth_frame().get_data(), np.uint16)

    contenders: dict[str, Callable[[], npt.NDArray[np.uint16]]] = {
        "ours": lambda: registration.apply(depth),
        "librealsense": aligned,
    }
    times_us: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(N_ROUNDS):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            times_us[name].append((time.perf_counter() - began) * 1e6)
    middle = (slice(180, 300), slice(240, 400))
    return {
        name: {
            **quantiles_ms(times_us[name][N_WARM_UP:]),
            "above_part_units": float(stand_in.PART_DEPTH - run()[middle].astype(float).mean()),
        }
        for name, run in contenders.items()
    }


if __name__ == "__main__":
    sys.exit(main())
