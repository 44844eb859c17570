"""Where a camera's exposures come from: the SDK's sets, or image by image.

A station that needs both streams takes the SDK's sets, and judges each. One that can do with
either takes the images themselves: in a set, the death of one stream holds the other back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from loupe_edge.camera_settings import CameraSettings, Stream
from loupe_edge.loose_pairing import Exposure, LoosePairing, Seen
from loupe_edge.pairing import CameraCounters, Pairing, Stamp, Step
from loupe_edge.pipeline import Pipeline
from loupe_edge.realsense import SdkObject, stamp_of, stream_of
from loupe_edge.sensors import Sensors

Shot = Exposure[SdkObject]
PairingT = TypeVar("PairingT", Pairing, LoosePairing[SdkObject])


class Source(Protocol):
    """A started camera or recording, exposure by exposure."""

    @property
    def counters(self) -> CameraCounters:
        """What was counted so far."""

    @property
    def n_seen(self) -> Mapping[Stream, int]:
        """Images of each stream so far."""

    def start(self) -> SdkObject:
        """Start the streams, and give the SDK's profile of them; a recording stands still."""

    def expect(self, fps: float, number_offset: int | None) -> None:
        """Learn how often exposures come, and how the streams' numbers differ."""

    def play(self) -> None:
        """Let a recording run."""

    def poll(self, timeout_ms: int) -> list[Shot] | None:
        """Give the exposures that are complete now; None where nothing came in time.

        Raises:
            CameraError: A required stream is dead, or the streams are out of step.
        """

    def rest(self) -> list[Shot]:
        """Give what still waits for a partner that will not come."""

    def is_over(self) -> bool:
        """Whether a recording has been played."""

    def stop(self) -> None:
        """Stop the streams, in bounded time."""


class _Paired(Generic[PairingT]):
    """What is known of images that are brought together one way or the other."""

    _pairing: PairingT

    @property
    def counters(self) -> CameraCounters:
        """What was counted so far."""
        return self._pairing.counters

    @property
    def n_seen(self) -> Mapping[Stream, int]:
        """Images of each stream so far."""
        return self._pairing.n_seen


class Sets(_Paired[Pairing]):
    """Exposures that have every wanted stream, judged from the SDK's sets."""

    def __init__(self, settings: CameraSettings, record_to: Path | None) -> None:
        self._settings = settings
        self._pipeline = Pipeline(settings, record_to)
        self.expect(settings.fps, None)
        self.start, self.play = self._pipeline.start, self._pipeline.play
        self.is_over, self.stop = self._pipeline.is_over, self._pipeline.stop

    def expect(self, fps: float, number_offset: int | None) -> None:
        """Begin to judge."""
        self._pairing = Pairing(self._settings.streams, Step(fps, number_offset))

    def poll(self, timeout_ms: int) -> list[Shot] | None:
        """Give an exposure, or none where the next set is not a new one."""
        frameset = self._pipeline.poll(timeout_ms)
        if frameset is None:
            return None
        images = {"rgb": frameset.get_color_frame(), "depth": frameset.get_depth_frame()}
        names: tuple[Stream, ...] = ("rgb", "depth")
        stamps: dict[Stream, Stamp] = {
            name: stamp_of(images[name]) for name in names if images[name]
        }
        if not self._pairing.judge(stamps):
            return []
        return [{name: Seen(stamps[name], images[name]) for name in self._settings.streams}]

    def rest(self) -> list[Shot]:
        """Nothing waits."""
        return []


class Images(_Paired[LoosePairing[SdkObject]]):
    """Exposures that have the required streams, and the others where they are there."""

    def __init__(self, settings: CameraSettings, required: frozenset[Stream]) -> None:
        self._required = required
        self._sensors = Sensors(settings)
        self.expect(settings.fps, None)
        self.start, self.play = self._sensors.start, self._sensors.play
        self.is_over, self.stop = self._sensors.is_over, self._sensors.stop

    def expect(self, fps: float, number_offset: int | None) -> None:
        """Begin to join."""
        step = Step(fps, number_offset)
        self._pairing = LoosePairing(self._required, step)

    def poll(self, timeout_ms: int) -> list[Shot] | None:
        """Give the exposures that the next image completes."""
        image = self._sensors.poll(timeout_ms)
        if image is None:
            return None
        self._pairing.skip(self._sensors.dropped)
        return self._pairing.take(stream_of(image), Seen(stamp_of(image), image))

    def rest(self) -> list[Shot]:
        """Give the last image that waits."""
        return self._pairing.flush()
