"""Building a plan: what is asked of TensorRT, what is told meanwhile, and how it is stopped."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from loupe_edge.errors import PlanError
from loupe_edge.notify import notify
from loupe_models.bundle import Bundle


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket such as systemd's, on which nobody need listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
        channel.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield channel


def silent(done: int, total: int) -> None:
    """Tell nobody."""


def test_it_is_typed_by_the_graph_and_by_no_flag(nvidia: Any, typed_bundle: Bundle) -> None:
    from loupe_edge.engines.tensorrt.building import build_plan

    built = build_plan(typed_bundle.file("rgb.fp16.onnx"), b"", silent)
    said = dict(nvidia.build.said)
    assert said["flags"] == 1 << 1  # STRONGLY_TYPED and nothing else
    assert said["without"] == "TF32"
    assert built.plan.startswith(b"stand-in plan")
    assert built.timing


def test_timing_is_used_again_and_of_another_tensorrt_is_not(
    nvidia: Any, typed_bundle: Bundle
) -> None:
    from loupe_edge.engines.tensorrt.building import build_plan

    graph = typed_bundle.file("rgb.fp16.onnx")
    first = build_plan(graph, b"", silent)
    build_plan(graph, first.timing, silent)
    assert nvidia.build.said[-1] == ("timing", first.timing)
    assert build_plan(graph, b"timing of 8.5", silent).timing == first.timing
    assert nvidia.build.said[-1] == ("timing", b"")


def test_progress_goes_forward_to_its_end(nvidia: Any, typed_bundle: Bundle) -> None:
    from loupe_edge.engines.tensorrt.building import build_plan

    told: list[tuple[int, int]] = []
    build_plan(typed_bundle.file("rgb.fp16.onnx"), b"", lambda *a: told.append(a))
    n_steps = nvidia.build.n_steps
    assert told[-1] == (n_steps + n_steps**2,) * 2
    assert all(done <= total for done, total in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_systemd_hears_that_it_takes_longer(
    nvidia: Any, typed_bundle: Bundle, systemd: socket.socket
) -> None:
    from loupe_edge.engines.tensorrt import monitor
    from loupe_edge.engines.tensorrt.building import build_plan

    nvidia.build.between_steps = lambda: time.sleep(0.003)
    monitor.TELL_EVERY_S = 0.01  # type: ignore[misc]  # this copy of the module is dropped
    build_plan(typed_bundle.file("rgb.fp16.onnx"), b"", silent)
    first, *more = told(systemd)
    assert "EXTEND_TIMEOUT_USEC=120000000\n" in first
    assert "STATUS=building a TensorRT plan" in first
    assert 1 <= len(more) < nvidia.build.n_steps**2  # now and then, not with every step


def told(systemd: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(systemd.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_a_socket_that_nobody_empties_stops_nothing(systemd: socket.socket) -> None:
    began = time.monotonic()
    taken = [notify("STATUS=x", f"n={i}") for i in range(1000)]
    assert time.monotonic() - began < 5
    assert taken[0]
    assert not taken[-1]
    assert told(systemd)[0] == "STATUS=x\nn=0"
    assert notify("STATUS=y")


@pytest.mark.parametrize("address", ["", "relative", "/not/there", "@not-there-either"])
def test_without_systemd_nothing_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("STATUS=x")


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"loupe-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
        channel.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert notify("READY=1")
        assert channel.recv(100) == b"READY=1"


def test_an_interrupt_stops_the_build_after_its_present_step(
    nvidia: Any, typed_bundle: Bundle
) -> None:
    from loupe_edge.engines.tensorrt.building import build_plan

    steps: list[str] = []

    def step() -> None:
        steps.append(threading.current_thread().name)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.03)

    nvidia.build.between_steps = step
    with pytest.raises(KeyboardInterrupt):
        build_plan(typed_bundle.file("rgb.fp16.onnx"), b"", silent)
    assert len(steps) <= 5
    assert "MainThread" not in steps  # which hears signals only while it is in Python
    assert [t.name for t in threading.enumerate() if "tensorrt" in t.name] == []


@pytest.mark.usefixtures("nvidia")
def test_a_graph_that_tensorrt_cannot_read_is_refused_with_its_reason(tmp_path: Path) -> None:
    from loupe_edge.engines.tensorrt.building import build_plan

    node = onnx.helper.make_node("Einsum", ["a", "a"], ["b"], equation="ij,ij->i")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "g", [info("a", 1, [2, 2])], [info("b", 1, [2])]
    )  # fmt: skip
    onnx.save(onnx.helper.make_model(graph), tmp_path / "g.onnx")
    with pytest.raises(PlanError, match="no importer for Einsum"):
        build_plan(tmp_path / "g.onnx", b"", silent)
