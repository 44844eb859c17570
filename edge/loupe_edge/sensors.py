"""A camera's sensors one by one: every image as it comes, whatever the other stream does.

The SDK's pipeline hands out sets. Where one stream dies, its syncer withholds the other for seven
frame intervals, then joins it to the dead stream's last image; where one never came, no set ever
comes. A station that can do with either stream therefore listens to the sensors themselves.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loupe_edge.camera_settings import CameraSettings, Stream
from loupe_edge.errors import CameraError
from loupe_edge.in_time import started_or_raise, stop_in_time
from loupe_edge.pairing import Stamp
from loupe_edge.pipeline import find_camera
from loupe_edge.player import Player
from loupe_edge.realsense import SdkObject, load_sdk, stamp_of, stream_of

MAX_WAITING = 8  # images: more would starve the camera of buffers
WAIT_S = 0.05


@dataclass(frozen=True, slots=True)
class Started:
    """What the SDK calls a profile: a device, and the streams that it was started with."""

    device: SdkObject
    streams: Sequence[SdkObject]

    def get_device(self) -> SdkObject:
        """Give the device."""
        return self.device

    def get_streams(self) -> Sequence[SdkObject]:
        """Give a profile for each stream."""
        return self.streams


class Sensors:
    """The streams of one device, live or from a recording, started and stopped in bounded time.

    Images arrive on the SDK's threads and wait in a short queue. In lock-step a full queue makes
    the player wait, and images come in the order of the file; live, all that wait make room: were
    it the oldest only, whoever reads too slowly would find halves of exposures and nothing else.
    The SDK's own queue cannot do this: in Python it waits while it holds the interpreter's lock,
    and nobody would ever empty it.

    Attributes:
        dropped: Of each stream, the newest image that nobody read.
    """

    def __init__(self, settings: CameraSettings) -> None:
        self._sdk = load_sdk()
        self._settings = settings
        self._images: queue.Queue[SdkObject] = queue.Queue(MAX_WAITING)
        self.dropped: Mapping[Stream, Stamp] = {}
        self._is_stopping = threading.Event()
        self._open: list[SdkObject] = []
        self._player: Player | None = None
        self._outcome: Started | RuntimeError | CameraError | None = None
        self._lock = threading.Lock()

    def start(self) -> Started:
        """Start every stream that is wanted and there; a recording stands still.

        Raises:
            CameraError: No such camera, or it did not start in time.
            RecordingError: The SDK refuses the recording.
        """
        thread = threading.Thread(target=self._run_start, name="camera-start", daemon=True)
        thread.start()
        thread.join(self._settings.start_timeout_s)
        with self._lock:
            outcome = self._outcome
            if outcome is None:
                self._is_stopping.set()  # whoever starts late stops itself
        return started_or_raise(outcome, self._settings)

    def play(self) -> None:
        """Let a recording run; a live camera runs already."""
        if self._player is not None:
            self._player.play()

    def poll(self, timeout_ms: int) -> SdkObject | None:
        """Give the next image, or None where none came in time."""
        try:
            return self._images.get(timeout=timeout_ms / 1000)
        except queue.Empty:
            return None

    def is_over(self) -> bool:
        """Whether a recording has been played; images may still be on their way from it."""
        return self._player is not None and self._player.is_over()

    def stop(self) -> None:
        """Stop the streams.

        Raises:
            CameraError: The SDK hangs; only the end of the process helps.
        """
        self._is_stopping.set()
        stop_in_time(self._run_stop)

    def _run_start(self) -> None:
        outcome: Started | RuntimeError | CameraError
        try:
            outcome = self._start_sensors()
        except (RuntimeError, CameraError) as error:
            outcome = error
        with self._lock:
            self._outcome = outcome
            is_late = self._is_stopping.is_set()
        if is_late:  # nobody waits any more, and nobody else would ever stop it
            self._run_stop()

    def _start_sensors(self) -> Started:
        device = self._device()
        wanted = [
            (sensor, profiles)
            for sensor in device.query_sensors()
            if (profiles := self._profiles_of(sensor))
        ]
        for sensor, profiles in wanted:
            sensor.open(profiles)
        for sensor, _ in wanted:
            sensor.start(self._receive)
            self._open.append(sensor)
        return Started(device, [profile for _, profiles in wanted for profile in profiles])

    def _device(self) -> SdkObject:
        if self._settings.recording is None:
            return find_camera(self._settings.serial or "")
        device = self._sdk.context().load_device(str(self._settings.recording))
        self._player = Player(device, real_time=self._settings.real_time)
        return device

    def _profiles_of(self, sensor: SdkObject) -> list[SdkObject]:
        """Choose the sensor's profile of each stream that is wanted; a recording has but one."""
        sdk, chosen = self._sdk, dict[Stream, SdkObject]()
        kinds: dict[SdkObject, tuple[Stream, SdkObject]] = {
            sdk.stream.color: ("rgb", sdk.format.rgb8),
            sdk.stream.depth: ("depth", sdk.format.z16),
        }
        for profile in sensor.get_stream_profiles():
            name, pixels = kinds.get(profile.stream_type(), (None, None))
            if name not in self._settings.streams or name in chosen:
                continue
            if self._settings.recording is not None or self._is_asked_for(profile, pixels):
                chosen[name] = profile
        return list(chosen.values())

    def _is_asked_for(self, profile: SdkObject, pixels: SdkObject) -> bool:
        asked, video = self._settings, profile.as_video_stream_profile()
        size = (video.width(), video.height()) == (asked.width_px, asked.height_px)
        return bool(size and profile.format() == pixels and profile.fps() == asked.fps)

    def _receive(self, image: SdkObject) -> None:
        """Take one image on the SDK's thread."""
        is_patient = self._settings.recording is not None and not self._settings.real_time
        while not self._is_stopping.is_set():
            try:
                self._images.put(image, timeout=WAIT_S if is_patient else 0)
            except queue.Full:
                if not is_patient:
                    self._drop_waiting()
            else:
                return

    def _drop_waiting(self) -> None:
        with self._lock:
            while True:
                try:
                    image = self._images.get_nowait()
                except queue.Empty:
                    return
                self.dropped = {**self.dropped, stream_of(image): stamp_of(image)}

    def _run_stop(self) -> None:
        if self._player is not None:
            self._player.halt()
        for sensor in self._open:
            sensor.stop()
            sensor.close()
        self._open = []
        if self._player is not None:
            self._player.halt()
        self._drop_waiting()
        self._player = None
