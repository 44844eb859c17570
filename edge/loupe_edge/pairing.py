"""Are these images one exposure? The SDK's own pairing is not to be trusted with that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loupe_edge.camera_settings import Stream
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
    """What a camera has counted.

    Attributes:
        dropped_frames: Exposures that the camera numbered but never delivered, the worst stream's.
        mixed_framesets: Sets the SDK made of two exposures, or with one image missing: skipped.
    """

    dropped_frames: int = 0
    mixed_framesets: int = 0

    def __add__(self, later: CameraCounters) -> CameraCounters:
        """Add what was counted after the camera was opened again."""
        return CameraCounters(
            self.dropped_frames + later.dropped_frames,
            self.mixed_framesets + later.mixed_framesets,
        )


@dataclass(slots=True)
class Step:
    """Whether a colour image and a depth image are of one exposure.

    Attributes:
        fps: Half of a frame's interval is the most two images of one exposure may differ.
        number_offset: Depth's frame number less colour's. It is 0 in our own recordings; a live
            camera counts each stream for itself (None), and the first pair in step tells.
        why: Why the last two were not.
    """

    fps: float
    number_offset: int | None = None
    why: str = ""
    _learned_offset: int | None = None

    def is_kept(self, rgb: Stamp, depth: Stamp) -> bool:
        """Judge two images by clock, time and number."""
        if rgb.domain != depth.domain:
            self.why = f"colour is stamped by the {rgb.domain} clock, depth by the {depth.domain}"
            return False
        apart_ms, most_ms = abs(rgb.ns - depth.ns) / 1e6, 500 / self.fps
        if apart_ms > most_ms:
            self.why = f"colour and depth are {apart_ms:.1f} ms apart, {most_ms:.1f} ms is the most"
            return False
        offset = depth.number - rgb.number
        expected = self.number_offset if self.number_offset is not None else self._learned_offset
        if expected is not None and offset != expected:
            self.why = (
                f"colour {rgb.number} and depth {depth.number} are {apart_ms:.1f} ms apart, but "
                f"two exposures by their frame numbers"
            )
            return False
        self._learned_offset = offset
        return True

    def forget(self) -> None:
        """Learn the offset anew: it came from a wrong pair, or the camera counts anew."""
        self._learned_offset = None


@dataclass(slots=True)
class Pairing:
    """Judges each set of images the SDK hands out; one exposure passes, once.

    Attributes:
        streams: Those that every frame needs.
        step: Tells whether two images are of one exposure.
    """

    streams: tuple[Stream, ...]
    step: Step
    n_seen: dict[Stream, int] = field(default_factory=dict)
    _newest: dict[Stream, Stamp] = field(default_factory=dict)
    _delivered: dict[Stream, Stamp] = field(default_factory=dict)
    _dropped: dict[Stream, int] = field(default_factory=dict)
    _mixed: int = 0
    _good_ns: int | None = None

    @property
    def counters(self) -> CameraCounters:
        """What was counted so far."""
        dropped = [self._dropped.get(name, 0) for name in self.streams]
        return CameraCounters(max(dropped), self._mixed)

    def judge(self, stamps: Mapping[Stream, Stamp]) -> bool:
        """Say whether these images are one exposure that was not given before.

        Args:
            stamps: Of every image in the set, of streams that nobody requires too: they tell
                that time goes on.

        Raises:
            CameraError: For half a second of the camera's time a stream has been silent, or no
                two images fitted together; the message names which. It may be called again.
        """
        for name, stamp in stamps.items():
            self._note(name, stamp)
        now_ns = max((stamp.ns for stamp in self._newest.values()), default=0)
        if self._good_ns is None:
            self._good_ns = now_ns
        wanted = {name: stamps[name] for name in self.streams if name in stamps}
        if wanted == self._delivered:
            self._complain(now_ns)
            return False
        if self._is_one_new_exposure(wanted):
            self._delivered = wanted
            self._good_ns = now_ns
            return True
        self._mixed += len(self.streams) > 1
        self._complain(now_ns)
        return False

    def _note(self, name: Stream, stamp: Stamp) -> None:
        """Keep a stream's newest image; a set may hold one that was seen before."""
        before = self._newest.get(name)
        if before is not None and stamp.ns <= before.ns and stamp.domain == before.domain:
            return
        if before is not None and stamp.number > before.number + 1:
            gap = stamp.number - before.number - 1
            self._dropped[name] = self._dropped.get(name, 0) + gap
        self._newest[name] = stamp
        self.n_seen[name] = self.n_seen.get(name, 0) + 1

    def _is_one_new_exposure(self, wanted: Mapping[Stream, Stamp]) -> bool:
        if len(wanted) < len(self.streams):
            return False
        if any(self._delivered.get(name) == stamp for name, stamp in wanted.items()):
            self.step.why = "each set repeats an image of the last"
            return False
        return len(wanted) == 1 or self.step.is_kept(wanted["rgb"], wanted["depth"])

    def _complain(self, now_ns: int) -> None:
        if self._good_ns is None or now_ns - self._good_ns <= MAX_SILENCE_S * 1e9:
            return
        self._good_ns = now_ns  # the next complaint is due after another half second
        self.step.forget()
        silent = [name for name in self.streams if self._is_silent(name, now_ns)]
        if silent:
            raise CameraError(f"no {' and no '.join(silent)} for {MAX_SILENCE_S} s: stream dead")
        raise CameraError(f"no exposure has both streams for {MAX_SILENCE_S} s: {self.step.why}")

    def _is_silent(self, name: Stream, now_ns: int) -> bool:
        newest = self._newest.get(name)
        if newest is None:
            return True
        # Clocks of two domains cannot be compared; the reason says that they are two.
        is_one_clock = len({stamp.domain for stamp in self._newest.values()}) == 1
        return is_one_clock and now_ns - newest.ns > MAX_SILENCE_S / 2 * 1e9


def sync_of(rgb: Stamp, depth: Stamp) -> Sync:
    """Give how far apart the two images of an exposure are."""
    return Sync(delta_us=round((depth.ns - rgb.ns) / 1000), domain=rgb.domain)
