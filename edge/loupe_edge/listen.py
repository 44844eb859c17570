"""A subscriber for people and scripts: receive, watch, and tell."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from datetime import datetime, timezone
from typing import Final

import zmq
from rich.table import Table
from rich.text import Text

from loupe_calibration.errors import BadInputError
from loupe_edge.endpoint import port_of
from loupe_edge.verdict import Verdict
from loupe_edge.watcher import Event, Moment, StationSummary, Watcher

POLL_MS: Final = 50
RECEIVE_HWM: Final = 10_000
RECONNECT_MS: Final = 50
BURST: Final = 1000  # what waits is heard before silence is called, but a flood cannot hide it

DECISION_STYLE: Final = {
    "good": "bold green",
    "defect": "bold white on red",
    "unknown": "bold black on yellow",
}
EVENT_STYLE: Final = {
    "joined": "cyan",
    "state": "cyan",
    "back": "green",
    "ended": "cyan",
    "restart": "magenta",
    "repeat": "yellow",
    "expired": "yellow",
    "gap": "bold red",
    "silence": "bold red",
    "stale": "bold red",
    "malformed": "bold red",
}


def hear(
    endpoint: str, watcher: Watcher, station: str = "", seconds: float | None = None
) -> Generator[Event, None, None]:
    """Subscribe and yield what the watcher notices, until the time is up.

    Args:
        endpoint: Where the station publishes, `tcp://host:port` or `ipc://path`; it may come
            up later, or go and come back.
        watcher: Follows the stations.
        station: Only this one; all by default.
        seconds: Stop after this long; never by default.

    Raises:
        BadInputError: The endpoint is not one.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVHWM, RECEIVE_HWM)
        socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        for topic in ("verdict", "heartbeat"):
            socket.subscribe(f"{topic}/{station}/" if station else f"{topic}/")
        try:
            port_of(endpoint)
            socket.connect(endpoint)
        except ValueError as error:
            raise BadInputError(f"cannot listen: {error}") from error
        except zmq.ZMQError as error:
            raise BadInputError(
                f"cannot listen to {endpoint!r} ({error.strerror}): give what the station "
                f"publishes on, such as tcp://127.0.0.1:5555"
            ) from error
        while deadline is None or time.monotonic() < deadline:
            socket.poll(POLL_MS)
            for _ in range(BURST):
                if not socket.poll(0):
                    break
                yield from watcher.receive(socket.recv_multipart(), _now())
            yield from watcher.tick(_now())


def as_json(event: Event) -> str:
    """Give one line of JSON: a verdict as it came over the wire, anything else as an event.

    It is ASCII: a message's own text can neither end the line nor steer a terminal.
    """
    if event.kind == "verdict" and event.verdict is not None:
        return json.dumps(event.verdict.model_dump(mode="json", by_alias=True))
    if event.kind == "heartbeat" and event.heartbeat is not None:
        return json.dumps(event.heartbeat.model_dump(mode="json", by_alias=True))
    told: dict[str, object] = {"event": event.kind, "station": event.station, "text": event.text}
    if event.kind == "gap":
        told["n_lost"] = event.n_lost
    return json.dumps(told)


def printable(text: str) -> str:
    """Escape what would end a line or steer a terminal; a message may come from anybody."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def as_text(event: Event) -> Text:
    """Give one line for a terminal."""
    if event.kind == "verdict" and event.verdict is not None:
        return verdict_line(event.verdict)
    line = Text(f"{_clock(time.time_ns())}  ", style="dim")
    line.append(f"{printable(event.station) or '-':<12} ", style="bold")
    style = EVENT_STYLE.get(event.kind, "dim")
    if event.heartbeat is not None and event.heartbeat.state == "fault":
        style = EVENT_STYLE["gap"]
    line.append(f"{event.kind.upper():<9} ", style=style)
    return line.append(printable(event.text))


def verdict_line(verdict: Verdict) -> Text:
    """Give a verdict in one line: when, which, what, how sure, how late, where."""
    line = Text(f"{_clock(verdict.captured_at_ns)}  ", style="dim")
    line.append(f"{printable(verdict.station):<12} ", style="bold")
    line.append(f"{verdict.decision.upper():^9}", style=DECISION_STYLE[verdict.decision])
    line.append(f" #{verdict.seq:<6}", style="dim")
    score = "    -   " if verdict.score is None else f"{verdict.score:8.3f}"
    line.append(f"{score} / {verdict.threshold:.3f}")
    line.append(
        "         " if verdict.p_value is None else f"  p {verdict.p_value:.3f}", style="dim"
    )
    latency_ms = (verdict.published_at_ns - verdict.captured_at_ns) / 1e6
    line.append(f"  {latency_ms:4.0f} ms", style="dim")
    if verdict.part_id is not None:
        line.append(f"  part {printable(verdict.part_id)}")
    if verdict.regions:
        x, y, width, height = verdict.regions[0].bbox_px
        more = f" and {len(verdict.regions) - 1} more" if len(verdict.regions) > 1 else ""
        line.append(f"  {width}×{height} px at {x}, {y}{more}")
    if verdict.reason and verdict.decision != "defect":
        line.append(f"  {printable(verdict.reason)}", style="yellow")
    return line


def summary_table(summaries: Sequence[StationSummary], n_malformed: int) -> Table:
    """Sum up what was heard."""
    rare = [line for summary in summaries if (line := _rare(summary))]
    rare += [f"{n_malformed} malformed messages"] if n_malformed else []
    caption = Text("\n".join(rare)) if rare else None
    table = Table(title="Heard", title_justify="left", caption=caption, caption_style="bold red")
    table.add_column("station", style="bold")
    counted = ("verdict", "good", "defect", "unknown")
    for name in (*counted, "lost", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for summary in summaries:
        n = [str(summary.n.get(name, 0)) for name in counted]
        lost = Text(str(summary.n_lost), style="bold red" if summary.n_lost else "")
        latency = ["-", "-"]
        if summary.latency_ms is not None:
            latency = [f"{ms:.1f}" for ms in summary.latency_ms]
        table.add_row(Text(printable(summary.station)), *n, lost, *latency)
    return table


def _rare(summary: StationSummary) -> str:
    """Say under the table what a good day has none of: columns for it would not fit 80."""
    kinds = ("expired", "repeat", "restart", "silence")
    told = [f"{n} {kind}" for kind in kinds if (n := summary.n.get(kind, 0))]
    told += [f"{summary.n_dropped} frames dropped"] if summary.n_dropped else []
    return f"{printable(summary.station)}: {', '.join(told)}" if told else ""


def _clock(unix_ns: int) -> str:
    at = datetime.fromtimestamp(unix_ns / 1e9, tz=timezone.utc).astimezone()
    return at.strftime("%H:%M:%S.%f")[:-3]


def _now() -> Moment:
    return Moment(time.time_ns(), time.monotonic_ns())
