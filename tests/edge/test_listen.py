"""The subscriber against a real ZeroMQ publisher in another process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import StringIO

import pytest
from rich.console import Console
from wire import good_document

from loupe_calibration.errors import BadInputError
from loupe_edge.heartbeat import LAST_WORDS
from loupe_edge.listen import as_json, as_text, hear, summary_table, verdict_line
from loupe_edge.verdict import Heartbeat, Verdict
from loupe_edge.watcher import Event, Moment, Watcher

PUBLISHER = textwrap.dedent(
    """
    import json, sys, time
    import zmq

    endpoint, plan = sys.argv[1], json.loads(sys.argv[2])
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind(endpoint)
        for _ in range(2):  # the two subscriptions of one listener
            publisher.recv()
        for pause_s, topic, header in plan:
            time.sleep(pause_s)
            now_ns = time.time_ns()
            header = {k: now_ns + v if k.endswith("_at_ns") else v for k, v in header.items()}
            publisher.send_multipart([topic.encode(), json.dumps(header).encode()])
        time.sleep(0.3)
    """
)


@pytest.fixture
def endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def verdict(
    seq: int, decision: str = "good", expires_in_ns: int = 500_000_000
) -> dict[str, object]:
    told: dict[str, object] = {
        "part_id": f"part-{seq}", "captured_at_ns": -20_000_000, "published_at_ns": 0,
        "expires_at_ns": expires_in_ns, "decision": decision, "score": 0.25 + seq,
        "p_value": 0.125,
    }  # fmt: skip
    if decision == "unknown":
        told |= {"reason": "the engine gave no score", "score": None, "p_value": None}
    if decision == "defect":
        region = {"bbox_px": [88, 120, 40, 22], "area_px": 300, "peak": 2.5}
        told["regions"] = [region | {"centroid_mm": None, "size_mm": None}]
    return good_document(seq) | told


def dated(document: dict[str, object]) -> dict[str, object]:
    return document | {"captured_at_ns": 10**18, "published_at_ns": 10**18 + 20_000_000}


def heartbeat(seq: int) -> dict[str, object]:
    return {"schema": 1, "station": "press-3", "epoch": 7, "seq": seq, "state": "ready",
            "reason": "", "at_ns": 0}  # fmt: skip


@contextmanager
def publishing(endpoint: str, plan: list[tuple[float, str, dict[str, object]]]) -> Iterator[None]:
    command = [sys.executable, "-c", PUBLISHER, endpoint, json.dumps(plan)]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.terminate()


def test_every_kind_of_trouble_arrives(endpoint: str) -> None:
    v, h = "verdict/press-3/", "heartbeat/press-3/"
    plan: list[tuple[float, str, dict[str, object]]] = [
        (0, h, heartbeat(-1)),
        (0, v, verdict(0)),
        (0, v, verdict(3, "unknown", expires_in_ns=-5_000_000)),
        (0, v, {"schema": 9}),
        (0, h, heartbeat(3)),
    ]
    watcher = Watcher(silence_s=0.5)
    with publishing(endpoint, plan):
        events = []
        with closing(hear(endpoint, watcher, seconds=20)) as stream:
            for event in stream:
                events.append(event)
                if event.kind == "silence" and event.station:
                    break
    told = [e.kind for e in events if not (e.kind == "silence" and not e.station)]
    assert told == ["joined", "state", "heartbeat", "verdict", "gap", "verdict", "expired",
                    "malformed", "heartbeat", "silence"]  # fmt: skip
    assert all(as_text(event).plain for event in events)


def test_one_station_of_two(endpoint: str) -> None:
    other = verdict(0) | {"station": "press-30"}
    plan: list[tuple[float, str, dict[str, object]]] = [
        (0, "verdict/press-30/", other),
        (0, "verdict/press-3/", verdict(0)),
    ]
    watcher = Watcher()
    with publishing(endpoint, plan), closing(hear(endpoint, watcher, "press-3", 20)) as stream:
        event = next(e for e in stream if e.kind == "verdict")
    assert event.station == "press-3"
    assert [s.station for s in watcher.summary()] == ["press-3"]


def test_listening_ends_when_its_time_is_up(endpoint: str) -> None:
    began = time.monotonic()
    events = list(hear(endpoint, Watcher(silence_s=0.1), seconds=0.4))
    assert [event.kind for event in events] == ["silence"]
    assert 0.35 < time.monotonic() - began < 5


@pytest.mark.parametrize(
    "wrong",
    ["", "localhost:5555", "tcp://", "tcp://localhost", "tcp://127.0.0.1:70000", "smoke://signal"],
)
def test_what_is_no_endpoint_is_refused(wrong: str) -> None:
    with pytest.raises(BadInputError, match="tcp://127"):
        next(hear(wrong, Watcher()))


def test_json_of_a_verdict_is_what_came_over_the_wire() -> None:
    document = dated(verdict(3, "defect"))
    event = Event("verdict", "press-3", verdict=Verdict.model_validate(document))
    assert json.loads(as_json(event)) == document


def test_json_of_anything_else_is_an_event() -> None:
    told = json.loads(as_json(Event("gap", "press-3", "verdict 4 lost", n_lost=1)))
    assert told == {"event": "gap", "station": "press-3", "text": "verdict 4 lost", "n_lost": 1}


def test_a_line_says_what_where_and_why() -> None:
    defect = verdict_line(Verdict.model_validate(dated(verdict(3, "defect")))).plain
    assert "DEFECT" in defect
    assert "40×22 px at 88, 120" in defect
    assert "part part-3" in defect
    unknown = verdict_line(Verdict.model_validate(dated(verdict(4, "unknown")))).plain
    assert "UNKNOWN" in unknown
    assert "the engine gave no score" in unknown


def test_the_summary_counts_by_decision() -> None:
    table = summary_table(Watcher().summary(), n_malformed=2)
    assert str(table.caption) == "2 malformed messages"
    assert table.row_count == 0


NOW = Moment(10**18, 0)
STEERING = "\x1b]0;mine\x07\x1b[2J\n12:00:00.000  press-3  GOOD\u2028\x9b1m\u202e"


def test_what_a_message_says_can_neither_fake_a_line_nor_steer_a_terminal() -> None:
    document = dated(verdict(4, "unknown")) | {"reason": STEERING, "station": STEERING,
                                               "part_id": STEERING}  # fmt: skip
    said = Event("verdict", STEERING, verdict=Verdict.model_validate(document))
    other = Event("malformed", STEERING, STEERING)
    for line in [f(e) for e in (said, other) for f in (as_json, lambda e: as_text(e).plain)]:
        assert line.isprintable()
        assert "mine" in line
    assert json.loads(as_json(said)) == document
    watcher = Watcher()
    watcher.receive([f"verdict/{STEERING}/".encode(), json.dumps(document).encode()], NOW)
    (name,) = summary_table(watcher.summary(), 0).columns[0].cells
    assert str(name).isprintable()


def test_a_time_at_the_end_of_64_bits_is_shown() -> None:
    document = dated(verdict(4, "unknown")) | {"captured_at_ns": 2**63 - 1}
    assert "UNKNOWN" in verdict_line(Verdict.model_validate(document)).plain


def test_the_closing_table_fits_eighty_columns(make_verdict: Callable[..., Verdict]) -> None:
    watcher = Watcher()
    now = Moment(3_000_000_000, 0)
    for seq in (0, 0, 5):  # a repeat, a gap, and all of them expired
        verdict = make_verdict(station="press-number-3", seq=seq, dropped_frames=1000 + seq)
        topic = b"verdict/press-number-3/"
        watcher.receive([topic, verdict.model_dump_json(by_alias=True).encode()], now)
    watcher.tick(Moment(now.unix_ns, 5_000_000_000))
    told = StringIO()
    Console(file=told, width=80).print(summary_table(watcher.summary(), 1))
    for word in ("press-number-3", "expired", "repeat", "silence", "1005 frames dropped", "p99 ms"):
        assert word in told.getvalue()
    assert "…" not in told.getvalue()


def test_a_clean_end_is_no_silence() -> None:
    watcher = Watcher()

    def beat(reason: str, epoch: int = 1) -> list[str]:
        heartbeat = Heartbeat(
            station="line-1", epoch=epoch, seq=-1, state="ready", reason=reason, at_ns=0
        )
        parts = [b"heartbeat/line-1/", heartbeat.model_dump_json(by_alias=True).encode()]
        return [event.kind for event in watcher.receive(parts, Moment(0, 0))]

    assert "ended" not in beat("")
    assert "ended" in beat(LAST_WORDS)
    assert watcher.tick(Moment(0, 60_000_000_000)) == []
    assert "restart" in beat("", epoch=2)
    assert [event.kind for event in watcher.tick(Moment(0, 60_000_000_000))] == ["silence"]
