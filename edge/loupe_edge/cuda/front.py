"""Preprocessing on a GPU: the numpy preprocessing's tensors, made by kernels."""

from __future__ import annotations

from loupe_calibration.transform import Transform
from loupe_edge.cuda.device import PyCudaDevice
from loupe_edge.cuda.layout import make_layout
from loupe_edge.cuda.memory import Memory
from loupe_edge.cuda.shared import DeviceArray
from loupe_edge.cuda.steps import group_around_centres, make_cloud, resize_colour
from loupe_models.errors import FrameError
from loupe_models.frame import Frame, Rect
from loupe_models.preprocess import (
    NO_BELT,
    Prepared,
    PreprocessSpec,
    Tensors,
    check_streams,
    refuse_bare,
)


class GpuFront:
    """Stands in for `loupe_models.preprocess.preprocess`, in the thread that owns the device."""

    def __init__(self, device: PyCudaDevice) -> None:
        self.device = device
        self._memory = Memory(device)

    def preprocess(
        self,
        frame: Frame,
        region: Rect,
        spec: PreprocessSpec,
        belt_from_camera: Transform | None = None,
    ) -> Prepared:
        """Make the graph's tensors and bring them here.

        Raises:
            FrameError: As the numpy preprocessing, in the same words.
            EngineError: The device failed.
        """
        check_streams(frame, spec)
        layout = make_layout(frame.size_wh, region, spec)
        if layout.removes_belt and belt_from_camera is None:
            raise FrameError(NO_BELT)
        made: dict[str, DeviceArray] = {}
        if "rgb" in spec.tensors:
            made["rgb"] = resize_colour(self._memory, frame, layout)
        if spec.needs_depth:
            made |= make_cloud(self._memory, frame, layout, belt_from_camera)
        if layout.n_centres:
            made |= group_around_centres(self._memory, made, layout)
        read = self.device.read([made[name] for name in spec.tensors])
        tensors: Tensors = dict(zip(spec.tensors, read, strict=True))
        refuse_bare(tensors, spec)
        return Prepared(tensors, layout.frame_px_from_map_px)

    def close(self) -> None:
        """Free the device's memory, in the same thread; safe to call twice."""
        self._memory.close()
