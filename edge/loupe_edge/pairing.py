"""Are these two images one exposure? The SDK's own pairing is not to be trusted with that."""

from __future__ import annotations

from dataclasses import dataclass, field

from loupe_edge.errors import CameraError
from loupe_models.frame import Sync, TimeDomain

MAX_SILENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class Stamp:
    """Number and time of one image."""

    number: int
    ns: int
    domain: TimeDomain


@dataclass(frozen=True, slots=True)
class CameraCounters:
    """What a camera has counted since it was opened.

    Attributes:
        dropped_frames: Exposures that the camera numbered but never delivered, the worst stream's.
        mixed_framesets: Pairs the SDK made of two exposures, or with one image missing: skipped.
    """

    dropped_frames: int = 0
    mixed_framesets: int = 0


@dataclass(slots=True)
class Pairing:
    """Judges each set of images the SDK hands out; one exposure passes, once.

    Attributes:
        streams: Those that every frame needs.
        fps: Half of a frame's interval is the most two images of one exposure may differ.
        number_offset: Depth's frame number less colour's. It is 0 in our own recordings; a live
            camera counts each stream for itself, and the first pair in step tells.
    """

    streams: tuple[str, ...]
    fps: float
    number_offset: int | None = None
    _newest: dict[str, Stamp] = field(default_factory=dict)
    _dropped: dict[str, int] = field(default_factory=dict)
    _mixed: int = 0
    _good_ns: int | None = None
    _first_ns: int | None = None
    _why: str = ""

    @property
    def counters(self) -> CameraCounters:
        """What was counted so far."""
        return CameraCounters(max(self._dropped.values(), default=0), self._mixed)

    def judge(self, stamps: dict[str, Stamp]) -> bool:
        """Say whether these images are one exposure that was not seen before.

        Args:
            stamps: By stream, of the images in the set.

        Raises:
            CameraError: For half a second of the camera's time a stream has been silent, or no
                two images fitted together; the message names which. It may be called again.
        """
        fresh = [name for name, stamp in stamps.items() if self._note(name, stamp)]
        passes = len(fresh) == len(self.streams) and self._in_step(stamps)
        now_ns = max((stamp.ns for stamp in self._newest.values()), default=0)
        if self._first_ns is None:
            self._first_ns = now_ns
        if passes:
            self._good_ns = now_ns
            return True
        if len(stamps) > 1 or self._good_ns is not None:
            self._mixed += bool(fresh) and len(stamps) > 1
        self._complain(now_ns)
        return False

    def sync(self, stamps: dict[str, Stamp]) -> Sync | None:
        """Give how far apart the two images are; None for a single stream."""
        if len(stamps) < len(("rgb", "depth")):
            return None
        rgb, depth = stamps["rgb"], stamps["depth"]
        return Sync(delta_us=round((depth.ns - rgb.ns) / 1000), domain=rgb.domain)

    def _note(self, name: str, stamp: Stamp) -> bool:
        """Keep a stream's newest image; False where it was seen before."""
        before = self._newest.get(name)
        if before is not None and stamp.number == before.number:
            return False
        if before is not None and stamp.number > before.number + 1:
            gap = stamp.number - before.number - 1
            self._dropped[name] = self._dropped.get(name, 0) + gap
        self._newest[name] = stamp
        return True

    def _in_step(self, stamps: dict[str, Stamp]) -> bool:
        if len(stamps) == 1:
            return True
        rgb, depth = stamps["rgb"], stamps["depth"]
        if rgb.domain != depth.domain:
            self._why = f"colour is stamped by the {rgb.domain} clock, depth by {depth.domain}"
            return False
        apart_ms, most_ms = abs(rgb.ns - depth.ns) / 1e6, 500 / self.fps
        if apart_ms > most_ms:
            self._why = (
                f"colour and depth are {apart_ms:.1f} ms apart, {most_ms:.1f} ms is the most"
            )
            return False
        offset = depth.number - rgb.number
        if self.number_offset is None:
            self.number_offset = offset
        if offset != self.number_offset:
            self._why = "colour and depth come from different exposures by their frame numbers"
            return False
        return True

    def _complain(self, now_ns: int) -> None:
        since_ns = self._good_ns if self._good_ns is not None else (self._first_ns or now_ns)
        if now_ns - since_ns <= MAX_SILENCE_S * 1e9:
            return
        self._good_ns = now_ns  # the next complaint is due after another half second
        silent = [
            name
            for name in self.streams
            if name not in self._newest or now_ns - self._newest[name].ns > MAX_SILENCE_S * 5e8
        ]
        if silent:
            raise CameraError(f"no {' and no '.join(silent)} for {MAX_SILENCE_S} s: stream dead")
        raise CameraError(f"no exposure has both streams for {MAX_SILENCE_S} s: {self._why}")
