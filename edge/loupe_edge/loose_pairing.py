"""Exposures of two streams of which one may be missing, joined image by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from loupe_edge.camera_settings import Stream
from loupe_edge.errors import CameraError
from loupe_edge.pairing import MAX_SILENCE_S, CameraCounters, Stamp, Step

OTHER: Final[Mapping[Stream, Stream]] = {"rgb": "depth", "depth": "rgb"}
DEAD_AFTER: Final = 3  # images of one stream without one of the other; fewer are only late
MAX_MISFITS: Final = 15  # pairs that fit by time and not by number, before the numbers are doubted

Image = TypeVar("Image")


@dataclass(frozen=True, slots=True)
class Seen(Generic[Image]):
    """An image and its stamp."""

    stamp: Stamp
    image: Image


Exposure = Mapping[Stream, Seen[Image]]


@dataclass(slots=True)
class LoosePairing(Generic[Image]):
    """Joins the images of one exposure, and gives an image alone where the other is missing.

    Each stream's images come in order, but one stream may come later than the other, and on a busy
    machine in bunches. So an image waits for its partner until a newer image of the other stream
    shows that there is none; where the other stream has not come for three images, it does not
    wait at all. A dead stream costs two frames' intervals, once. No two images of different
    exposures are ever joined, and no exposure is given twice: an image whose partner was given
    alone comes too late.

    Attributes:
        required: What every exposure must have; an image without it is not given.
        step: Tells whether two images are of one exposure.
        n_seen: Images of each stream.
    """

    required: frozenset[Stream]
    step: Step
    n_seen: dict[Stream, int] = field(default_factory=dict)
    _newest: dict[Stream, Stamp] = field(default_factory=dict)
    _waiting: list[Seen[Image]] = field(default_factory=list)  # all of one stream
    _waiting_name: Stream = "rgb"
    _given: dict[Stream, Stamp] = field(default_factory=dict)
    _good_ns: dict[Stream, int] = field(default_factory=dict)
    _n_since: dict[Stream, int] = field(default_factory=lambda: {"rgb": 0, "depth": 0})
    _dropped: dict[Stream, int] = field(default_factory=lambda: {"rgb": 0, "depth": 0})
    _n_misfits: int = 0
    _skipped: Mapping[Stream, Stamp] = field(default_factory=dict)

    @property
    def counters(self) -> CameraCounters:
        """What was counted so far; an exposure that one stream delivered is not dropped."""
        required = [self._dropped[name] for name in self.required]
        return CameraCounters(max(required) if required else min(self._dropped.values()), 0)

    def take(self, name: Stream, seen: Seen[Image]) -> list[Exposure[Image]]:
        """Take the next image; give the exposures that it completes, in order.

        Raises:
            CameraError: For half a second of the camera's time no exposure had what is required;
                the message names the stream. It may be called again.
        """
        if not self._note(name, seen.stamp):
            return []
        if self._is_too_late(name, seen.stamp):
            return self._deliver([], name, seen.stamp)
        return self._deliver(self._join(name, seen), name, seen.stamp)

    def skip(self, dropped: Mapping[Stream, Stamp]) -> None:
        """Learn of each stream's newest image that was dropped unread, so that exposures go whole.

        Else a verdict would say of a stream that is well that there was none.
        """
        self._skipped = dropped

    def flush(self) -> list[Exposure[Image]]:
        """Give what still waits when there will be no more images."""
        return self._wanted(self._alone(0))

    def _note(self, name: Stream, stamp: Stamp) -> bool:
        """Count an image; false where it is not newer than the last of its stream."""
        before = self._newest.get(name)
        if before is not None and stamp.ns <= before.ns and stamp.domain == before.domain:
            return False
        if before is not None and stamp.number > before.number + 1:
            self._dropped[name] += stamp.number - before.number - 1
        self._newest[name] = stamp
        self.n_seen[name] = self.n_seen.get(name, 0) + 1
        self._n_since[name] = 0
        other = self._newest.get(OTHER[name])
        if other is None or other.domain != stamp.domain or self._is_later(stamp, other):
            self._n_since[OTHER[name]] += 1
        return True

    def _join(self, name: Stream, seen: Seen[Image]) -> list[Exposure[Image]]:
        """Give what an image completes: its own exposure, and those whose partner never came."""
        if self._waiting_name == name or not self._waiting:
            self._waiting_name = name
            self._waiting.append(seen)
            if max(self._n_since[OTHER[name]], len(self._waiting)) < DEAD_AFTER:
                return []
            # Alone it is of no use where the other is required, which may be on its way again.
            return self._alone(0 if self.required <= {name} else 1)
        given: list[Exposure[Image]] = []
        while self._waiting:
            first = self._waiting[0]
            if self._fits(name, seen, first):
                return [*given, {name: seen, self._waiting_name: self._waiting.pop(0)}]
            if first.stamp.domain == seen.stamp.domain and first.stamp.ns > seen.stamp.ns:
                return [*given, {name: seen}]
            given.append({self._waiting_name: self._waiting.pop(0)})
        return [*given, *self._join(name, seen)]

    def _alone(self, n_kept: int) -> list[Exposure[Image]]:
        """Give the images that wait, but for the last few."""
        n_given = len(self._waiting) - n_kept
        given, self._waiting = self._waiting[:n_given], self._waiting[n_given:]
        return [{self._waiting_name: seen} for seen in given]

    def _wanted(self, found: list[Exposure[Image]]) -> list[Exposure[Image]]:
        """Leave out what lacks a required stream, and what is left of a half-dropped exposure."""
        wanted = []
        for exposure in found:
            (name, seen), *others = exposure.items()
            if not others and self._is_half_dropped(name, seen.stamp):
                self._dropped[name] += 1
            elif self.required <= set(exposure):
                wanted.append(exposure)
        return wanted

    def _is_half_dropped(self, name: Stream, stamp: Stamp) -> bool:
        dropped = self._skipped.get(OTHER[name])
        if dropped is None or dropped.domain != stamp.domain:
            return False
        return not self._is_later(stamp, dropped)

    def _fits(self, name: Stream, one: Seen[Image], other: Seen[Image]) -> bool:
        rgb, depth = (one, other) if name == "rgb" else (other, one)
        if self.step.is_kept(rgb.stamp, depth.stamp):
            self._n_misfits = 0
            return True
        self._n_misfits += self._is_simultaneous(rgb.stamp, depth.stamp)
        if self._n_misfits > MAX_MISFITS:
            self.step.forget()
            self._n_misfits = 0
        return False

    def _is_simultaneous(self, one: Stamp, other: Stamp) -> bool:
        return one.domain == other.domain and abs(one.ns - other.ns) <= 5e8 / self.step.fps

    def _is_too_late(self, name: Stream, stamp: Stamp) -> bool:
        """Whether its exposure was given already, or a later one."""
        given = self._given.get(OTHER[name])
        if given is None:
            return False
        if given.domain != stamp.domain:  # never to be joined: colour speaks while there is any
            return name == "depth" and self._n_since["rgb"] < DEAD_AFTER
        return not self._is_later(stamp, given)

    def _is_later(self, stamp: Stamp, than: Stamp) -> bool:
        """Whether it is of a later exposure, by one clock."""
        return stamp.ns > than.ns and not self._is_simultaneous(stamp, than)

    def _deliver(
        self, found: list[Exposure[Image]], name: Stream, now: Stamp
    ) -> list[Exposure[Image]]:
        given = self._wanted(found)
        for exposure in given:
            self._given |= {stream: seen.stamp for stream, seen in exposure.items()}
            self._good_ns = {}
        since_ns = self._good_ns.setdefault(name, now.ns)
        if now.ns - since_ns > MAX_SILENCE_S * 1e9:
            self._good_ns = {}
            missing = " and no ".join(sorted(self.required - {name})) or name
            raise CameraError(f"no {missing} for {MAX_SILENCE_S} s: stream dead")
        return given
