"""A station whose GPU prepares the tensors too, on stand-ins that run the kernels on this CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from every_step import Sharpen

from loupe_edge.assembly import open_service
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


pytestmark = pytest.mark.usefixtures("nvrtc")


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
    typed_bundle: Bundle,
    tmp_path: Path,
    make_frame: MakeFrame,
    refused_elsewhere: Callable[..., list[str]],
) -> None:
    settings = EngineSettings(kind="tensorrt", cache=tmp_path, front="gpu")
    engine = open_engine(typed_bundle, "rgb", settings)
    frame, spec = make_frame(), typed_bundle.mode("rgb").preprocess
    (told,) = refused_elsewhere(lambda: engine.preprocess(frame, Rect(0, 0, 96, 80), spec, None))
    assert "only in the thread that opened it" in told
    engine.close()


def test_a_sticky_error_in_the_front_is_unknown_and_then_the_end(
    nvidia_kernels: Any, service_of: Callable[..., Any]
) -> None:
    opened, publisher = service_of(5, "gpu")
    with opened as service:
        n_runs = nvidia_kernels.gpu.asked.count("execute")
        nvidia_kernels.gpu.is_lost = True
        with pytest.raises(EngineLostError, match="the GPU is lost"):
            service.run()
    (verdict,) = publisher.verdicts
    assert verdict.decision == "unknown"
    assert "the GPU did not take a frame" in verdict.reason
    assert nvidia_kernels.gpu.asked.count("execute") == n_runs  # it was the front that met it


def test_a_failure_that_passes_is_one_unknown(
    nvidia_kernels: Any, service_of: Callable[..., Any]
) -> None:
    opened, publisher = service_of(2, "gpu")
    with opened as service:
        nvidia_kernels.gpu.fails_once = "launch timed out"
        service.run()
    assert [v.decision for v in publisher.verdicts] == ["unknown", "good"]
    assert "did not answer (launch timed out)" in publisher.verdicts[0].reason


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
        open_service(station_of(front="gpu"), publisher=publisher, camera=camera),
    ):
        pass
    assert nvidia_kernels.gpu.stack == []
    with open_service(station_of(), publisher=publisher, camera=camera):
        pass


@pytest.mark.usefixtures("nvidia_kernels")
def test_check_says_who_prepares(check: Callable[[str], Any], tmp_path: Path) -> None:
    told = check("gpu")
    assert told.status == 0, told.err
    assert "rgb fp16, tensorrt, preprocessing on the GPU" in told.out
    assert (tmp_path / "plans" / "kernels").is_dir()


def test_a_step_that_no_kernel_does_is_refused_before_a_plan_is_built(
    nvidia_kernels: Any, typed_bundle: Bundle, tmp_path: Path
) -> None:
    contract = typed_bundle.mode("rgb")
    steps = contract.preprocess.model_copy(update={"steps": (Sharpen(),)})
    modes = {"rgb": contract.model_copy(update={"preprocess": steps})}
    manifest = typed_bundle.manifest.model_copy(update={"modes": modes})
    bundle = replace(typed_bundle, manifest=manifest)
    settings = EngineSettings(kind="tensorrt", cache=tmp_path, front="gpu")
    with pytest.raises(StationError, match="step 'sharpen'"):
        open_engine(bundle, "rgb", settings)
    assert nvidia_kernels.build.n_builds == 0
