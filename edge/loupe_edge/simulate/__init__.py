"""A ray-cast conveyor: parts of two kinds, a D435-like camera above them, known defects.

`simulate` writes a recording that the one camera class reads like any other. What is true of each
frame is in its labels file; where the belt lies is in `NAME.belt.json` beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from loupe_calibration.errors import CalibrationError
from loupe_calibration.transform import Transform
from loupe_edge.errors import RecordingError
from loupe_edge.labels import belt_path
from loupe_edge.recorder import Recorder, Rig
from loupe_edge.simulate.conveyor import SimulatedFrame, frames, has_depth, n_frames
from loupe_edge.simulate.optics import DEPTH_SCALE_M, gate_spec, optics
from loupe_edge.simulate.scenario import DEFECT_NAMES, KIND_NAMES, Scenario

__all__ = [
    "DEFECT_NAMES",
    "KIND_NAMES",
    "Scenario",
    "SimulatedFrame",
    "belt_path",
    "frames",
    "gate_spec",
    "n_frames",
    "read_belt",
    "simulate",
]

_TRANSFORM = TypeAdapter(Transform)


def simulate(scenario: Scenario, out: Path, progress: Callable[[int, int], None]) -> None:
    """Run a scenario's belt past the camera and record what it sees.

    Args:
        scenario: What passes.
        out: The recording to write, NAME.db3; labels, masks and NAME.belt.json go beside it.
        progress: Called with the frames done and the frames in all.

    Raises:
        RecordingError: The path does not end in `.db3`, or anything of the recording is there.
        FaultError: The recorder lost a frame, or the disk is full.
    """
    view = optics(scenario.width_px, scenario.height_px)
    rig = Rig(view.rgb, view.depth, DEPTH_SCALE_M, view.rgb_from_depth)
    n_all = n_frames(scenario)
    with Recorder(out, rig, scenario.fps, view.belt_from_rgb) as recorder:
        for done, frame in enumerate(frames(scenario), start=1):
            depth = frame.depth if has_depth(scenario, done - 1) else None
            recorder.write(frame.rgb, depth, frame.label, frame.mask)
            progress(done, n_all)


def read_belt(recording: Path) -> Transform:
    """Read `belt_from_camera` of a simulated recording; the camera's frame is the colour one.

    Raises:
        RecordingError: The file is missing or holds no transform.
    """
    path = belt_path(recording)
    try:
        return _TRANSFORM.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RecordingError(
            f"{path} is missing: only simulated recordings bring their belt; name the station's"
        ) from error
    except (OSError, ValidationError, CalibrationError) as error:
        raise RecordingError(f"{path} holds no belt: {error}") from error
