"""Items that are frames of a recording, read in lock-step by the one camera class."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from loupe_calibration.transform import Transform
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings, Stream
from loupe_edge.errors import CameraError, EndOfRecordingError
from loupe_edge.inspector import DEFAULT_MIN_DEPTH_VALID
from loupe_edge.labels import labels_path, read_labels, read_mask, require_every_label
from loupe_edge.recording_file import read_contents
from loupe_models.frame import Frame, Label
from loupe_models.gate import GateSpec, gate
from loupe_trainer.data.item import Item, Stamp
from loupe_trainer.errors import DataError

_TRANSFORM = TypeAdapter(Transform)


@dataclass(frozen=True, slots=True)
class RecordingSet:
    """A .db3 recording, its labels and its belt.

    Attributes:
        labels: By item key; truth masks are found through them.
        min_depth_valid: See `DataSet`.
    """

    path: Path
    streams: tuple[Stream, ...]
    items: Sequence[Item]
    labels: Mapping[str, Label]
    belt_from_camera: Transform | None
    min_depth_valid: float = DEFAULT_MIN_DEPTH_VALID

    @classmethod
    def open(
        cls, path: Path, streams: tuple[Stream, ...], gate_spec: GateSpec, belt: Transform | None
    ) -> RecordingSet:
        """Note which frame shows which part.

        A labels file speaks for every frame, or is refused: a defect whose line is lost would be
        learnt as good. Without one every part is taken for good, and a run of frames in which the
        gate sees a part is one part: the recording is played once for that, and the gate must be
        able to see that there is no part.

        Args:
            path: A .db3 file.
            streams: Required of every frame.
            gate_spec: Tells parts apart where there are no labels.
            belt: None takes the belt file beside the recording, where there is one.

        Raises:
            DataError: A folder, labels for some frames only; or no labels, and a gate that cannot
                tell parts apart.
            RecordingError: Missing, damaged, or a stream is missing.
        """
        known_belt = belt or _read_belt(path.with_suffix(".belt.json"))
        if path.is_dir():
            raise DataError(f"{path}: a folder, not a recording; give a .db3 file")
        if labels_path(path).exists():
            by_frame = _every_label(path)
        else:
            by_frame = _label_runs(path, streams, gate_spec, known_belt)
        items: list[Item] = []
        labels: dict[str, Label] = {}
        for (frame_id, camera_ns), label in by_frame.items():
            if label.part_id is None or label.kind is None:
                continue
            key = f"frame-{frame_id}-{camera_ns}"
            stamp = Stamp(frame_id, camera_ns)
            items.append(Item(key, label.part_id, label.kind, path, label.defect, stamp=stamp))
            labels[key] = label
        return cls(path, streams, tuple(items), labels, known_belt)

    @property
    def files(self) -> Mapping[str, Path]:
        """The recording, and what is known of it where anything is."""
        beside = [labels_path(self.path), self.path.with_suffix(".belt.json")]
        masks = {m for label in self.labels.values() if (m := label.mask)}
        named = [self.path, *beside, *(self.path.parent / mask for mask in sorted(masks))]
        return {str(f.relative_to(self.path.parent)): f for f in named if f.is_file()}

    def frames(self, items: Sequence[Item]) -> Generator[tuple[Item, Frame], None, None]:
        """Play the recording, and give the frames that are wanted.

        Raises:
            DataError: A stream stopped before them.
        """
        wanted = {(i.stamp.frame_id, i.stamp.camera_ns): i for i in items if i.stamp}
        with closing(read_frames(self.path, self.streams)) as frames:
            try:
                for frame in frames:
                    if not wanted:
                        return
                    item = wanted.pop((frame.frame_id, frame.camera_time.ns), None)
                    if item is not None:
                        yield item, frame.with_label(self.labels[item.key])
            except CameraError as error:
                raise DataError(
                    f"{self.path}: {error}, and {' and '.join(self.streams)} of every frame are "
                    f"needed here; choose a mode that looks at the other stream alone (--mode)"
                ) from error

    def mask(self, item: Item) -> npt.NDArray[np.bool_] | None:
        """Read a truth mask from the folder beside the recording."""
        label = self.labels[item.key]
        return None if label.mask is None else read_mask(self.path, label)


def read_frames(
    path: Path, streams: tuple[Stream, ...], required: tuple[Stream, ...] | None = None
) -> Generator[Frame, None, None]:
    """Give every frame of a recording, in lock-step; nothing is dropped.

    To be closed by whoever does not come to the end, see `DataSet.frames`.

    Args:
        path: A .db3 file.
        streams: What frames are given.
        required: What each of them must have; None asks for all streams.
    """
    camera = RealSenseCamera(CameraSettings(recording=path, streams=streams), required=required)
    camera.open()
    try:
        while True:
            try:
                yield camera.read()
            except EndOfRecordingError:
                return
    finally:
        camera.close()


def _every_label(path: Path) -> Mapping[tuple[int, int], Label]:
    """Read the labels, one for every frame."""
    labels = read_labels(path)
    require_every_label(path, labels, read_contents(path).n_images)
    return labels.by_frame


def _label_runs(
    path: Path, streams: tuple[Stream, ...], spec: GateSpec, belt: Transform | None
) -> Mapping[tuple[int, int], Label]:
    """Number the runs of frames in which the gate sees a part."""
    if spec.occupied is None:
        raise DataError(
            f"{path} has no labels, so its parts must be told apart by the gate: set "
            f"[gate.occupied] in the recipe, or give a recording with labels"
        )
    labels: dict[tuple[int, int], Label] = {}
    n_runs, was_seen = 0, False
    with closing(read_frames(path, streams)) as frames:
        for frame in frames:
            is_seen = gate(frame, spec, belt) is not None
            n_runs += is_seen and not was_seen
            was_seen = is_seen
            if is_seen:
                label = Label(source=str(path), part_id=f"part-{n_runs:06d}", kind="good")
                labels[frame.frame_id, frame.camera_time.ns] = label
    return labels


def _read_belt(file: Path) -> Transform | None:
    if not file.is_file():
        return None
    try:
        return _TRANSFORM.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{file}: not a belt ({error}); simulate or calibrate again") from error
