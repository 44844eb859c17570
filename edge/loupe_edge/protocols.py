"""The seams of the edge: what the loop needs of a camera, an engine, a publisher, a journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from loupe_calibration.transform import Transform
from loupe_edge.verdict import Heartbeat, Verdict
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame, Rect
from loupe_models.preprocess import Prepared, PreprocessSpec, Tensors

if TYPE_CHECKING:
    from loupe_edge.inspector import Inspection

Outputs = Mapping[str, npt.NDArray[np.float32]]
Preprocess = Callable[[Frame, Rect, PreprocessSpec, Transform | None], Prepared]


class CameraCounters(Protocol):
    """What a camera has counted, over all its openings."""

    @property
    def dropped_frames(self) -> int:
        """Exposures that the camera numbered but never delivered."""


class Camera(Protocol):
    """Frames in order, each exposure once."""

    @property
    def counters(self) -> CameraCounters:
        """What was counted so far; an opening does not forget it."""

    def open(self) -> None:
        """Start the streams, in bounded time.

        Raises:
            CameraError: No camera, or it did not start in time.
            RecordingError: The recording is missing, damaged, or lacks a required stream.
        """

    def read(self) -> Frame:
        """Wait for the next frame, in bounded time.

        Raises:
            CameraError: No trustworthy frame came in time; its message names the stream.
            RecordingError: The recording is damaged: not every image in it could be read.
            EndOfRecordingError: The recording is over.
        """

    def close(self) -> None:
        """Stop the streams; safe to call twice."""


class Engine(Protocol):
    """A loaded graph, and what makes its tensors."""

    @property
    def preprocess(self) -> Preprocess:
        """What makes the tensors: `loupe_models.preprocess.preprocess`, or its very like.

        It raises FrameError in the same words, and EngineError as `infer` does.
        """

    def infer(self, tensors: Tensors) -> Outputs:
        """Run one frame.

        Raises:
            EngineError: A tensor does not fit the graph, or the runtime failed.
            EngineLostError: The device answers nothing any more: only a new process helps.
        """

    def close(self) -> None:
        """Free what the engine holds; safe to call twice."""


Proof = Callable[[Engine], object]  # raises where an engine must not speak


class FrameInspector(Protocol):
    """What answers for a frame: one mode of a bundle, or the best of several."""

    @property
    def bundle(self) -> Bundle:
        """The bundle of every mode."""

    @property
    def mode(self) -> str:
        """The mode in force."""

    @property
    def cut(self) -> float:
        """The threshold in force."""

    @property
    def ailment(self) -> str:
        """Why another mode than the preferred one is in force; empty where it is not."""

    @property
    def n_engine_errors(self) -> int:
        """Frames in a row, up to the last one inspected, that the engine failed."""

    @property
    def is_engine_lost(self) -> bool:
        """Whether no frame will ever get an answer in this process."""

    def inspect(self, frame: Frame) -> Inspection | None:
        """Answer for one frame; None where the gate sees no whole part to inspect."""


class Publisher(Protocol):
    """Where verdicts go."""

    def publish(self, verdict: Verdict) -> None:
        """Send one verdict; never blocks."""

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Say that the station lives, and how it is."""

    def close(self) -> None:
        """Flush and free the socket."""


class Journal(Protocol):
    """What was said, kept."""

    @property
    def n_owed(self) -> int:
        """Verdicts that are not kept yet; after `close`, those that never were."""

    def append(self, verdict: Verdict) -> None:
        """Keep one verdict."""

    def close(self) -> None:
        """Flush and free the file."""
