"""Verdicts on a real ZeroMQ socket, heard by another process."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from loupe_edge.endpoint import ADVICE, port_of, unbindable
from loupe_edge.errors import StationError
from loupe_edge.publisher import ZmqPublisher
from loupe_edge.verdict import Heartbeat, Verdict

Hear = Callable[[str], subprocess.Popen[str]]
# fmt: off
WIRE_FIELDS = {
    "schema", "station", "epoch", "seq", "part_id", "frame_id", "captured_at_ns",
    "published_at_ns", "expires_at_ns", "camera_time", "decision", "reason", "score", "threshold",
    "p_value", "mode", "regions", "sync", "depth_valid_fraction", "stage_us", "dropped_frames",
    "bundle", "calibration_id",
}
# fmt: on

LISTEN = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.subscribe(sys.argv[2])
socket.connect(sys.argv[1])
while True:
    parts = socket.recv_multipart()
    print(b"\\t".join(parts).decode(), flush=True)
"""


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[ZmqPublisher]:
    publisher = ZmqPublisher(f"ipc://{tmp_path}/verdicts")
    yield publisher
    publisher.close()


@pytest.fixture
def hear(publisher: ZmqPublisher) -> Iterator[Hear]:
    """Start a process that hears the publisher's messages, and wait until it does."""
    running: list[subprocess.Popen[str]] = []

    def start(topic: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", LISTEN, publisher.endpoint, topic]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert publisher.wait_for_subscriber(20)
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    assert process.stdout is not None
    topic, header = process.stdout.readline().rstrip("\n").split("\t")
    return topic, header


def beat(seq: int) -> Heartbeat:
    return Heartbeat(station="line-1", epoch=1, seq=seq, state="ready", reason="", at_ns=5)


def test_another_process_hears_every_verdict_in_order(
    publisher: ZmqPublisher,
    hear: Hear,
    make_verdict: Callable[..., Verdict],
) -> None:
    process = hear("verdict/line-1/")
    said = [make_verdict(seq=i, score=i / 700) for i in range(200)]
    for verdict in said:
        publisher.publish(verdict)
    for verdict in said:
        topic, header = line_of(process)
        assert topic == "verdict/line-1/"
        assert Verdict.model_validate_json(header) == verdict


def test_the_header_has_exactly_the_fields_of_schema_1(
    publisher: ZmqPublisher,
    hear: Hear,
    make_verdict: Callable[..., Verdict],
) -> None:
    process = hear("")
    publisher.publish(make_verdict())
    publisher.heartbeat(beat(0))
    verdict = json.loads(line_of(process)[1])
    topic, header = line_of(process)
    assert topic == "heartbeat/line-1/"
    assert json.loads(header) == {
        "schema": 1,
        "station": "line-1",
        "epoch": 1,
        "seq": 0,
        "state": "ready",
        "reason": "",
        "at_ns": 5,
    }
    assert set(verdict) == WIRE_FIELDS


def test_a_station_is_not_heard_as_another_that_begins_alike(
    publisher: ZmqPublisher,
    hear: Hear,
    make_verdict: Callable[..., Verdict],
) -> None:
    process = hear("verdict/line-1/")
    publisher.publish(make_verdict(station="line-10", seq=3))
    publisher.publish(make_verdict(station="line-1", seq=4))
    assert json.loads(line_of(process)[1])["seq"] == 4


def test_nobody_listening_blocks_nothing(
    publisher: ZmqPublisher, make_verdict: Callable[..., Verdict]
) -> None:
    assert not publisher.wait_for_subscriber(0.1)
    for i in range(20_000):
        publisher.heartbeat(beat(i))
    publisher.publish(make_verdict())


def test_a_listener_that_does_not_read_blocks_nothing(
    publisher: ZmqPublisher, make_verdict: Callable[..., Verdict]
) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as deaf:
        deaf.set(zmq.LINGER, 0)
        deaf.set(zmq.RCVHWM, 1)
        deaf.subscribe("")
        deaf.connect(publisher.endpoint)
        assert publisher.wait_for_subscriber(20)
        verdict = make_verdict()
        for _ in range(15_000):
            publisher.publish(verdict)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_an_endpoint_in_use_is_refused_with_what_to_do(tmp_path: Path, transport: str) -> None:
    first = ZmqPublisher("tcp://127.0.0.1:*" if transport == "tcp" else f"ipc://{tmp_path}/v")
    with pytest.raises(StationError, match="is in use; is this station running already"):
        ZmqPublisher(first.endpoint)
    first.close()
    again = ZmqPublisher(first_endpoint := f"ipc://{tmp_path}/v")
    assert again.endpoint == first_endpoint  # a socket file left behind is not in the way
    again.close()


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://nonsense",
        "tcp://*:70000",
        "tcp://203.0.113.9:5555",
        "ipc:///no/x",
        f"ipc:///tmp/{'x' * 103}",
    ],
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(StationError, match=r"publish\.endpoint: .*something like"):
        ZmqPublisher(endpoint)


def test_what_is_advised_can_be_bound_anywhere() -> None:
    tcp, ipc = re.findall(r"\w+://\S+", ADVICE)
    assert port_of(tcp) == 5555
    assert (port_of(ipc), unbindable(ipc)) == (None, "")


def test_a_file_where_the_socket_would_be_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "parts.db3"
    file.write_bytes(b"an afternoon's parts")
    with pytest.raises(
        StationError, match=r"publish\.endpoint: .*parts\.db3 exists and is no socket"
    ):
        ZmqPublisher(f"ipc://{file}")
    assert file.read_bytes() == b"an afternoon's parts"


def test_a_socket_of_another_kind_is_left_to_whoever_is_bound_to_it(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(StationError, match="is in use"):
            ZmqPublisher(f"ipc://{path}")
        assert path.is_socket()


def test_an_abstract_name_has_no_file(tmp_path: Path) -> None:
    publisher = ZmqPublisher(f"ipc://@{tmp_path.name}")
    assert publisher.endpoint == f"ipc://@{tmp_path.name}"
    publisher.close()


def test_closing_twice_is_safe_and_a_late_heartbeat_is_not_sent(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/verdicts"
    publisher = ZmqPublisher(endpoint)
    with zmq.Context() as context, context.socket(zmq.SUB) as listener:
        listener.setsockopt(zmq.SUBSCRIBE, b"")
        listener.connect(endpoint)
        while not listener.poll(20):
            publisher.heartbeat(beat(1))
        publisher.close()
        while listener.poll(100):
            listener.recv_multipart()
        publisher.heartbeat(beat(2))
        publisher.close()
        assert not listener.poll(200)
