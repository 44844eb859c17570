"""A station whose GPU prepares the tensors too, on stand-ins that run the kernels on this CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loupe_edge.assembly import open_service
from loupe_edge.cuda.nvrtc import nvrtc_version
from loupe_edge.engine_settings import EngineSettings
from loupe_edge.engines import open_engine
from loupe_edge.errors import EngineError, EngineLostError, ProofError, StationError
from loupe_edge.fakes import ListCamera
from loupe_edge.publisher import ListPublisher
from loupe_edge.replay import replay
from loupe_edge.station import Station
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame, Rect

MakeFrame = Callable[..., Frame]
TIMES = {"epoch", "captured_at_ns", "published_at_ns", "expires_at_ns", "stage_us"}


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        nvrtc_version()
    except StationError as error:
        pytest.skip(f"A STATION WITH THE GPU FRONT IS NOT TESTED HERE: {error}")


@pytest.fixture
def station_of(
    make_station: Callable[..., Station], typed_bundle: Bundle, tmp_path: Path
) -> Callable[..., Station]:
    """`station_of(mode, front, **sections)`: on TensorRT, its cache in `tmp_path`."""

    def make(mode: str = "rgb", front: str = "gpu", **sections: object) -> Station:
        engine = {"kind": "tensorrt", "cache": tmp_path / "cache", "front": front}
        return make_station(mode, bundle=typed_bundle.path, engine=engine, **sections)

    return make


@pytest.mark.parametrize(
    ("mode", "kernels"),
    [("rgb", {"grow"}), ("depth", {"make_cloud"}), ("rgbd", {"grow", "make_cloud"})],
)
def test_a_recording_gets_the_verdicts_of_the_cpu_front(
    nvidia_kernels: Any,
    station_of: Callable[..., Station],
    tiny_recording: Path,
    mode: str,
    kernels: set[str],
) -> None:
    gpu = nvidia_kernels.gpu
    streams = {"rgb": ["rgb"], "depth": ["depth"], "rgbd": ["rgb", "depth"]}[mode]
    camera = {"recording": tiny_recording, "streams": streams}
    said = {}
    for front in ("cpu", "gpu"):
        assert not {"grow", "make_cloud"} & set(gpu.asked)
        verdicts = list(replay(station_of(mode, front, camera=camera)))
        said[front] = [verdict.model_dump(exclude=TIMES) for verdict in verdicts]
    assert said["gpu"] == said["cpu"]
    assert {verdict["decision"] for verdict in said["gpu"]} == {"good", "defect"}
    assert {"grow", "make_cloud"} & set(gpu.asked) == kernels
    assert gpu.stack == []
    assert nvidia_kernels.driver.MEMORY == {}
    assert gpu.threads == {threading.get_ident()}


def test_the_front_goes_before_the_engine_and_its_context(
    nvidia_kernels: Any, typed_bundle: Bundle, tmp_path: Path, make_frame: MakeFrame
) -> None:
    gpu = nvidia_kernels.gpu
    settings = EngineSettings(kind="tensorrt", cache=tmp_path, front="gpu")
    engine = open_engine(typed_bundle, "rgb", settings)
    prepare = engine.preprocess
    spec = typed_bundle.mode("rgb").preprocess
    prepare(make_frame(), Rect(16, 12, 64, 56), spec, None)
    assert [path.suffix for path in (tmp_path / "kernels").iterdir()] == [".cubin"]
    before = len(gpu.asked)
    engine.close()
    order = gpu.asked[before:]
    assert order.index("free device") < order.index("free module")
    assert order.index("free module") < order.index("free execution context") < order.index("pop")
    assert nvidia_kernels.driver.MEMORY == {}
    with pytest.raises(EngineError, match="closed"):
        prepare(make_frame(), Rect(16, 12, 64, 56), spec, None)


@pytest.mark.usefixtures("nvidia_kernels")
def test_no_other_thread_is_served(
    typed_bundle: Bundle, tmp_path: Path, make_frame: MakeFrame
) -> None:
    settings = EngineSettings(kind="tensorrt", cache=tmp_path, front="gpu")
    engine = open_engine(typed_bundle, "rgb", settings)
    prepare = engine.preprocess
    told: list[str] = []

    def intrude() -> None:
        with pytest.raises(EngineError) as caught:
            prepare(make_frame(), Rect(0, 0, 96, 80), typed_bundle.mode("rgb").preprocess, None)
        told.append(str(caught.value))

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert "only in the thread that opened it" in told[0]
    engine.close()


@pytest.mark.parametrize("lock_step", [False, True])
def test_a_sticky_error_in_the_front_is_unknown_and_then_the_end(
    nvidia_kernels: Any,
    station_of: Callable[..., Station],
    make_frame: MakeFrame,
    lock_step: bool,
) -> None:
    publisher = ListPublisher()
    camera = ListCamera([make_frame(frame_id=i) for i in range(5)])
    with open_service(
        station_of(), lock_step=lock_step, publisher=publisher, camera=camera
    ) as service:
        n_runs = nvidia_kernels.gpu.asked.count("execute")
        nvidia_kernels.gpu.is_lost = True
        with pytest.raises(EngineLostError, match="the GPU is lost"):
            service.run()
    (verdict,) = publisher.verdicts
    assert verdict.decision == "unknown"
    assert "the GPU did not take a frame" in verdict.reason
    assert nvidia_kernels.gpu.asked.count("execute") == n_runs  # it was the front that met it


def test_a_failure_that_passes_is_one_unknown(
    nvidia_kernels: Any, station_of: Callable[..., Station], make_frame: MakeFrame
) -> None:
    publisher = ListPublisher()
    camera = ListCamera([make_frame(frame_id=i) for i in range(3)])
    with open_service(station_of(), lock_step=True, publisher=publisher, camera=camera) as service:
        for i, _ in enumerate(service.verdicts()):
            nvidia_kernels.gpu.fails_once = "launch timed out" if i == 0 else ""
    assert [v.decision for v in publisher.verdicts] == ["good", "unknown", "good"]
    assert "did not answer (launch timed out)" in publisher.verdicts[1].reason


def test_the_proof_goes_through_the_front(
    nvidia_kernels: Any, station_of: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels that prepare nonsense are noticed before the first frame."""

    def nonsense(self: Any, *_: object) -> None:  # noqa: ARG001
        for memory in nvidia_kernels.driver.MEMORY.values():
            memory.fill(9)

    monkeypatch.setattr(nvidia_kernels.driver.Function, "_launch", nonsense)
    publisher, camera = ListPublisher(), ListCamera([])
    with (
        pytest.raises(ProofError),
        open_service(station_of(), publisher=publisher, camera=camera),
    ):
        pass
    assert nvidia_kernels.gpu.stack == []
    with open_service(station_of(front="cpu"), publisher=publisher, camera=camera):
        pass


@pytest.mark.usefixtures("nvidia_kernels")
def test_check_says_who_prepares(
    call: Callable[..., Any], typed_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "part.db3").touch()
    file = tmp_path / "station.toml"
    file.write_text(
        f'station = "press-3"\nbundle = "{typed_bundle.path}"\n'
        '[camera]\nrecording = "part.db3"\n'
        '[engine]\nkind = "tensorrt"\nfront = "gpu"\ncache = "cache"\n',
        encoding="utf-8",
    )
    told = call("check", file)
    assert told.status == 0, told.err
    assert "rgb fp16, tensorrt, preprocessing on the GPU" in told.out
    assert (tmp_path / "cache" / "kernels").is_dir()
