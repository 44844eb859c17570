"""A librealsense pipeline that starts and stops in bounded time, live or from a recording."""

from __future__ import annotations

import threading
from pathlib import Path

from loupe_edge.camera_settings import CameraSettings
from loupe_edge.errors import CameraError
from loupe_edge.in_time import started_or_raise, stop_in_time
from loupe_edge.player import Player
from loupe_edge.realsense import SdkObject, load_sdk


class Pipeline:
    """The SDK's pipeline with its traps fenced in.

    - Without a camera `start` blocks for 15 s: devices are asked for first, and it runs in a
      thread that is waited for only so long.
    - `stop` can hang for good: it is waited for only so long.
    """

    def __init__(self, settings: CameraSettings, record_to: Path | None = None) -> None:
        self._sdk = load_sdk()
        self._settings = settings
        self._record_to = record_to
        self._pipeline = self._sdk.pipeline()
        self._player: Player | None = None
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._started: SdkObject | RuntimeError | None = None

    def start(self) -> SdkObject:
        """Start every stream, and give the SDK's profile of them; a recording stands still.

        Raises:
            CameraError: No such camera, or it did not start in time.
            RecordingError: The SDK refuses the recording.
        """
        config = self._config()
        thread = threading.Thread(
            target=self._run_start, args=(config,), name="camera-start", daemon=True
        )
        thread.start()
        thread.join(self._settings.start_timeout_s)
        with self._lock:
            self._is_abandoned = self._started is None
        return started_or_raise(self._started, self._settings)

    def play(self) -> None:
        """Let a recording run; a live camera runs already."""
        if self._player is not None:
            self._player.play()

    def poll(self, timeout_ms: int) -> SdkObject | None:
        """Give the next set of images, or None where none came in time."""
        arrived, frameset = self._pipeline.try_wait_for_frames(timeout_ms)
        return frameset if arrived else None

    def is_over(self) -> bool:
        """Whether a recording has been played; images may still be on their way from it."""
        return self._player is not None and self._player.is_over()

    def stop(self) -> None:
        """Stop the streams.

        Raises:
            CameraError: The SDK hangs; only the end of the process helps.
        """
        stop_in_time(self._run_stop)

    def _run_start(self, config: SdkObject) -> None:
        outcome: SdkObject | RuntimeError
        try:
            self._hold_recording(config)
            outcome = self._pipeline.start(config)
        except RuntimeError as error:
            outcome = error
        with self._lock:
            self._started = outcome
            is_late = self._is_abandoned and not isinstance(outcome, RuntimeError)
        if is_late:  # nobody waits any more, and nobody else would ever stop it
            self._pipeline.stop()

    def _run_stop(self) -> None:
        if self._player is not None:
            halting = threading.Thread(target=self._player.halt, daemon=True)
            halting.start()
            while halting.is_alive():
                self.poll(1)
        self._pipeline.stop()
        if self._player is not None:
            self._player.halt()

    def _hold_recording(self, config: SdkObject) -> None:
        if self._settings.recording is None:
            return
        device = config.resolve(self._sdk.pipeline_wrapper(self._pipeline)).get_device()
        self._player = Player(device.as_playback(), real_time=self._settings.real_time)

    def _config(self) -> SdkObject:
        settings, sdk = self._settings, self._sdk
        config = sdk.config()
        kinds = {
            "rgb": (sdk.stream.color, sdk.format.rgb8),
            "depth": (sdk.stream.depth, sdk.format.z16),
        }
        if settings.recording is not None:
            config.enable_device_from_file(str(settings.recording), repeat_playback=False)
            for name in settings.streams:  # the SDK would wait for any other that is recorded
                config.enable_stream(kinds[name][0])
            return config
        find_camera(settings.serial or "")
        config.enable_device(settings.serial)
        for name in settings.streams:
            kind, pixels = kinds[name]
            size = settings.width_px, settings.height_px
            config.enable_stream(kind, *size, pixels, settings.fps)
        if self._record_to is not None:
            config.enable_record_to_file(str(self._record_to))
        return config


def find_camera(serial: str) -> SdkObject:
    """Give the connected camera of a serial number.

    Raises:
        CameraError: It is not connected; the message names those that are.
    """
    sdk = load_sdk()
    number = sdk.camera_info.serial_number
    found = {
        device.get_info(number): device
        for device in sdk.context().query_devices()
        if device.supports(number)
    }
    if serial not in found:
        raise CameraError(
            f"camera {serial} is not connected ({', '.join(found) or 'no camera'} found): "
            f"check cable and serial number"
        )
    return found[serial]
