"""What a careful subscriber notices: gaps, expiry, silence, restarts, and what it cannot read.

Pure: messages and moments go in, events come out. Sockets and colours are in `listen`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy as np
from pydantic import ValidationError

from loupe_edge.heartbeat import LAST_WORDS
from loupe_edge.verdict import WIRE_SCHEMA, Heartbeat, Verdict
from loupe_models.strict_json import loads

SILENCE_S: Final = 1.0
N_LATENCIES: Final = 10_000  # the latest ones: a listener may run for months
MAX_COMPLAINT: Final = 300  # characters: what cannot be read may be of any length

EventKind = Literal[
    "verdict",
    "heartbeat",
    "joined",
    "state",
    "gap",
    "repeat",
    "expired",
    "silence",
    "back",
    "ended",
    "restart",
    "stale",
    "malformed",
]


class Moment(NamedTuple):
    """One instant on two clocks: UNIX time for expiry, the monotonic clock for silence."""

    unix_ns: int
    monotonic_ns: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth telling.

    Attributes:
        station: Empty where no station is known (a malformed message, silence from the start).
        text: For people; empty for a verdict or heartbeat, which speaks for itself.
        n_lost: Verdicts missing, for a gap.
    """

    kind: EventKind
    station: str
    text: str = ""
    verdict: Verdict | None = None
    heartbeat: Heartbeat | None = None
    n_lost: int = 0


@dataclass(frozen=True, slots=True)
class StationSummary:
    """What one station said while we listened.

    Attributes:
        n: Events by kind, and verdicts by decision.
        n_lost: Verdicts that were sent and never arrived.
        n_dropped: Frames nobody looked at since the station's start, as its last verdict says;
            over all its starts that were heard.
        latency_ms: p50 and p99 from capture to publication; None without verdicts.
    """

    station: str
    n: dict[str, int]
    n_lost: int
    n_dropped: int
    latency_ms: tuple[float, float] | None


@dataclass(slots=True)
class _Heard:
    """What is remembered of one station.

    Attributes:
        next_seq: None until a verdict or heartbeat says where the sequence stands.
        owed_seq: Last verdict that a heartbeat announced and that has not arrived.
        n_dropped: By epoch.
    """

    name: str
    epoch: int
    last_heartbeat_ns: int
    next_seq: int | None = None
    owed_seq: int | None = None
    is_silent: bool = False
    has_ended: bool = False
    state: str = ""
    n_lost: int = 0
    n_dropped: dict[int, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=N_LATENCIES))


class Watcher:
    """Follows any number of stations on one subscription."""

    def __init__(self, silence_s: float = SILENCE_S) -> None:
        self._silence_ns = int(silence_s * 1e9)
        self._stations: dict[str, _Heard] = {}
        self._n_malformed = 0
        self._began_ns: int | None = None
        self._said_nothing_heard = False

    def receive(self, parts: Sequence[bytes], now: Moment) -> list[Event]:
        """Take one multipart message: topic, header, and image parts that are not looked at."""
        try:
            message = _parse(parts)
        except ValueError as error:
            self._n_malformed += 1
            complaint = str(error)
            if len(complaint) > MAX_COMPLAINT:
                complaint = complaint[:MAX_COMPLAINT] + "..."
            return [Event("malformed", "", complaint)]
        heard = self._stations.get(message.station)
        if heard is None:
            heard = _Heard(message.station, message.epoch, now.monotonic_ns)
            self._stations[message.station] = heard
        events = list(_follow(heard, message, now))
        heard.counts.update(event.kind for event in events)
        heard.n_lost += sum(event.n_lost for event in events)
        return events

    def tick(self, now: Moment) -> list[Event]:
        """Notice what did not come; call it several times a second."""
        if self._began_ns is None:
            self._began_ns = now.monotonic_ns
        if not self._stations and not self._said_nothing_heard:
            if now.monotonic_ns - self._began_ns <= self._silence_ns:
                return []
            self._said_nothing_heard = True
            return [Event("silence", "", "nothing heard yet: is the station running there?")]
        events = []
        for heard in self._stations.values():
            quiet_ns = now.monotonic_ns - heard.last_heartbeat_ns
            if quiet_ns > self._silence_ns and not (heard.is_silent or heard.has_ended):
                heard.is_silent = True
                heard.counts["silence"] += 1
                text = f"no heartbeat for {quiet_ns / 1e9:.1f} s: treat parts as unknown"
                events.append(Event("silence", heard.name, text))
        return events

    @property
    def has_begun(self) -> bool:
        """Whether anybody ever listened."""
        return self._began_ns is not None

    @property
    def n_malformed(self) -> int:
        """Messages that could not be read."""
        return self._n_malformed

    def summary(self) -> list[StationSummary]:
        """Sum up every station heard, in alphabetical order."""
        return [_sum_up(self._stations[name]) for name in sorted(self._stations)]


def _sum_up(heard: _Heard) -> StationSummary:
    latency_ms = None
    if heard.latencies_ms:
        p50, p99 = np.quantile(np.asarray(heard.latencies_ms), (0.5, 0.99))
        latency_ms = (float(p50), float(p99))
    n_dropped = sum(heard.n_dropped.values())
    return StationSummary(heard.name, dict(heard.counts), heard.n_lost, n_dropped, latency_ms)


def _parse(parts: Sequence[bytes]) -> Verdict | Heartbeat:
    """Read a message.

    Raises:
        ValueError: In one line, why it is not of schema 1.
    """
    if len(parts) < 2:
        raise ValueError(f"{len(parts)} message part(s); expected a topic and a header")
    topic = parts[0].decode("utf-8", errors="replace")
    kind, _, rest = topic.partition("/")
    if kind not in ("verdict", "heartbeat") or not rest.endswith("/"):
        raise ValueError(f"topic {topic!r}; expected verdict/<station>/ or heartbeat/<station>/")
    try:
        document = loads(parts[1])
    except ValueError as error:
        raise ValueError(f"{topic} header is not JSON: {error}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if type(schema) is not int or schema != WIRE_SCHEMA:
        raise ValueError(f"{topic} speaks schema {schema!r}, this listener reads {WIRE_SCHEMA}")
    model = Verdict if kind == "verdict" else Heartbeat
    try:
        message: Verdict | Heartbeat = model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "as a whole"
        raise ValueError(f"{topic} {where}: {first['msg']}") from error
    if message.station != rest[:-1]:
        raise ValueError(f"{topic} carries a message of station {message.station!r}")
    return message


def _follow(heard: _Heard, message: Verdict | Heartbeat, now: Moment) -> Iterator[Event]:
    if message.epoch < heard.epoch:
        yield Event("stale", heard.name, "message of an earlier epoch: two services, one name?")
        return
    if message.epoch > heard.epoch:
        yield Event("restart", heard.name, "the service restarted: verdicts count from 0 again")
        heard.epoch, heard.next_seq, heard.owed_seq = message.epoch, 0, None
    if isinstance(message, Heartbeat):
        yield from _follow_heartbeat(heard, message, now)
    else:
        yield from _follow_verdict(heard, message, now)


def _follow_verdict(heard: _Heard, verdict: Verdict, now: Moment) -> Iterator[Event]:
    if heard.next_seq is None:
        yield Event("joined", heard.name, f"joined at verdict {verdict.seq}")
        heard.next_seq = verdict.seq
    if verdict.seq < heard.next_seq:
        yield Event("repeat", heard.name, f"verdict {verdict.seq} came again, or too late")
        return
    yield from _gap(heard, verdict.seq - 1)
    heard.next_seq = verdict.seq + 1
    heard.counts[verdict.decision] += 1
    heard.n_dropped[verdict.epoch] = verdict.dropped_frames
    heard.latencies_ms.append((verdict.published_at_ns - verdict.captured_at_ns) / 1e6)
    yield Event("verdict", heard.name, verdict=verdict)
    late_ns = now.unix_ns - verdict.expires_at_ns
    if late_ns > 0:
        text = f"verdict {verdict.seq} expired {late_ns / 1e6:.0f} ms ago: do not act on it"
        yield Event("expired", heard.name, text, verdict=verdict)


def _follow_heartbeat(heard: _Heard, heartbeat: Heartbeat, now: Moment) -> Iterator[Event]:
    if heard.is_silent:
        quiet_s = (now.monotonic_ns - heard.last_heartbeat_ns) / 1e9
        yield Event("back", heard.name, f"heard again after {quiet_s:.1f} s")
    heard.is_silent, heard.last_heartbeat_ns = False, now.monotonic_ns
    if heard.next_seq is None:
        after = f"after verdict {heartbeat.seq}" if heartbeat.seq >= 0 else "before any verdict"
        yield Event("joined", heard.name, f"joined {after}")
        heard.next_seq = heartbeat.seq + 1
    # A heartbeat may overtake the verdict it names, so a loss is called at the next heartbeat.
    if heard.owed_seq is not None:
        yield from _gap(heard, heard.owed_seq)
    heard.owed_seq = heartbeat.seq if heartbeat.seq >= heard.next_seq else None
    if heartbeat.state != heard.state:
        heard.state = heartbeat.state
        why = f": {heartbeat.reason}" if heartbeat.reason else ""
        yield Event("state", heard.name, f"{heartbeat.state}{why}", heartbeat=heartbeat)
    heard.has_ended = heartbeat.reason.endswith(LAST_WORDS)
    if heard.has_ended:
        yield Event("ended", heard.name, "the service ended: treat parts as unknown")
    yield Event("heartbeat", heard.name, heartbeat=heartbeat)


def _gap(heard: _Heard, up_to_seq: int) -> Iterable[Event]:
    """Tell of the verdicts before `up_to_seq`, it included, that never arrived."""
    first = heard.next_seq or 0
    n_lost = up_to_seq - first + 1
    if n_lost <= 0:
        return []
    heard.next_seq = up_to_seq + 1
    lost = f"verdict {first}" if n_lost == 1 else f"verdicts {first} to {up_to_seq}"
    text = f"{lost} lost on the way: treat the part{'s' if n_lost > 1 else ''} as unknown"
    return [Event("gap", heard.name, text, n_lost=n_lost)]
