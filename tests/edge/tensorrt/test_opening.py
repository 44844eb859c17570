"""From bundle to verdicts over TensorRT: build, prove, keep, run, and what keeps one from it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loupe_calibration.errors import BadInputError
from loupe_edge.assembly import open_service
from loupe_edge.build import build_plans
from loupe_edge.engine_settings import EngineSettings
from loupe_edge.engines import open_engine
from loupe_edge.errors import EngineError, EngineLostError, PlanCacheError, ProofError, StationError
from loupe_edge.fakes import ListCamera
from loupe_edge.proof import WARM_UPS
from loupe_edge.proved import open_proved
from loupe_edge.publisher import ListPublisher
from loupe_edge.station import Station
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.errors import BundleError
from loupe_models.frame import Frame

MakeFrame = Callable[..., Frame]
HERE = Path(__file__).parent


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def plans(cache: Path) -> list[Path]:
    return sorted((cache / "plans").iterdir()) if cache.exists() else []


def test_plans_are_built_once_proved_and_kept(
    nvidia: Any, typed_bundle: Bundle, cache: Path
) -> None:
    before = {file: file.stat().st_mtime_ns for file in typed_bundle.path.rglob("*")}
    first = list(build_plans(typed_bundle, folder=cache))
    assert [built.graph for built in first] == [
        "rgb.fp16.onnx",
        "depth.fp16.onnx",
        "rgbd.fp16.onnx",
    ]
    assert all(built.built_s is not None and "built in" in built.told for built in first)
    assert plans(cache) == sorted(built.place for built in first)
    assert len(list((cache / "timing").iterdir())) == 1
    again = list(build_plans(typed_bundle, folder=cache))
    assert [built.built_s for built in again] == [None] * 3
    assert nvidia.build.n_builds == 3
    assert nvidia.gpu.stack == []
    assert nvidia.driver.MEMORY == {}
    assert {file: file.stat().st_mtime_ns for file in typed_bundle.path.rglob("*")} == before
    load_bundle(typed_bundle.path)  # nothing in it that its manifest does not list


def test_a_plan_that_answers_wrongly_is_not_kept(
    nvidia: Any, typed_bundle: Bundle, cache: Path
) -> None:
    nvidia.build.spoil = lambda found: [value * np.float32(0.5) for value in found]
    with (
        pytest.raises(ProofError, match="the trainer said"),
        open_proved(typed_bundle, "rgb", EngineSettings(kind="tensorrt", cache=cache)),
    ):
        pass
    assert plans(cache) == []
    assert not (cache / "timing").exists()
    assert nvidia.gpu.stack == []


def test_a_plan_of_nan_is_not_kept(nvidia: Any, typed_bundle: Bundle, cache: Path) -> None:
    nvidia.build.spoil = lambda found: [value * np.float32("nan") for value in found]
    with (
        pytest.raises(ProofError, match="no answer"),
        open_proved(typed_bundle, "rgb", EngineSettings(kind="tensorrt", cache=cache)),
    ):
        pass
    assert plans(cache) == []


def test_every_opening_proves_once(nvidia: Any, typed_bundle: Bundle, cache: Path) -> None:
    settings = EngineSettings(kind="tensorrt", cache=cache)
    n_golden = len(typed_bundle.mode("rgb").golden)
    for _ in ("a plan that is new", "one that is kept"):
        before = nvidia.gpu.asked.count("execute")
        with open_proved(typed_bundle, "rgb", settings) as proved:
            assert proved.report.n_golden == n_golden
        n_runs = nvidia.gpu.asked.count("execute") - before
        assert n_runs == 1 + WARM_UPS + n_golden  # the engine's own first run is the 1
    assert nvidia.build.n_builds == 1


def test_a_plan_that_nobody_proved_is_not_kept(
    nvidia: Any, typed_bundle: Bundle, cache: Path
) -> None:
    open_engine(typed_bundle, "rgb", EngineSettings(kind="tensorrt", cache=cache)).close()
    assert nvidia.build.n_builds == 1
    assert plans(cache) == []


def test_a_compiler_that_is_missing_is_told_before_a_plan_is_built(
    nvidia: Any, typed_bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> str:
        raise StationError("libnvrtc is not here")

    monkeypatch.setattr("loupe_edge.cuda.kernels.nvrtc_version", refuse)
    settings = EngineSettings(kind="tensorrt", cache=cache, front="gpu")
    with pytest.raises(StationError, match="libnvrtc"), open_proved(typed_bundle, "rgb", settings):
        pass
    assert nvidia.build.n_builds == 0


def test_a_kept_plan_that_answers_wrongly_is_refused(
    nvidia: Any, typed_bundle: Bundle, cache: Path
) -> None:
    settings = EngineSettings(kind="tensorrt", cache=cache)
    list(build_plans(typed_bundle, "rgb", cache))
    nvidia.build.spoil = lambda found: [value * np.float32(0.5) for value in found]
    with pytest.raises(ProofError, match="the trainer said"):
        list(build_plans(typed_bundle, "rgb", cache))
    with (
        pytest.raises(ProofError, match="the trainer said"),
        open_proved(typed_bundle, "rgb", settings),
    ):
        pass
    assert nvidia.gpu.stack == []
    assert nvidia.build.n_builds == 1


@pytest.mark.parametrize("name", ["gpu", "driver", "tensorrt"])
def test_another_device_builds_its_own(
    nvidia: Any, typed_bundle: Bundle, cache: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(build_plans(typed_bundle, "rgb", cache))
    if name == "tensorrt":
        monkeypatch.setattr("tensorrt.__version__", "11.4.0")
    elif name == "gpu":
        nvidia.gpu.capability = (8, 9)
    else:
        nvidia.gpu.cuda = 13020
    (built,) = build_plans(typed_bundle, "rgb", cache)
    assert built.built_s is not None
    assert len(plans(cache)) == 2


def test_a_plan_that_is_damaged_or_refused_is_built_again(
    nvidia: Any, typed_bundle: Bundle, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (built,) = build_plans(typed_bundle, "rgb", cache)
    whole = (built.place / "engine.plan").read_bytes()
    (built.place / "engine.plan").write_bytes(whole[:-1])
    with caplog.at_level(logging.WARNING):
        (again,) = build_plans(typed_bundle, "rgb", cache)
    assert again.built_s is not None
    assert "damaged" in caplog.text
    assert (built.place / "engine.plan").read_bytes() == whole

    from loupe_edge.engines.tensorrt.building import FLAGS
    from loupe_edge.engines.tensorrt.cache import PlanCache
    from loupe_edge.engines.tensorrt.device import device_key
    from loupe_edge.engines.tensorrt.key import PlanKey

    key = PlanKey(typed_bundle.manifest.files["rgb.fp16.onnx"], device_key(), FLAGS)
    with PlanCache(cache).making(key) as keep:
        keep(b"whole, but nothing that TensorRT takes\n")
    with caplog.at_level(logging.WARNING):
        (again,) = build_plans(typed_bundle, "rgb", cache)
    assert again.built_s is not None
    assert "TensorRT refuses the plan" in caplog.text
    assert nvidia.build.n_builds == 3


@pytest.mark.usefixtures("nvidia")
def test_a_bundle_without_typed_graphs_and_a_place_to_read_only_are_explained(
    tiny_bundle: Bundle, typed_bundle: Bundle
) -> None:
    with pytest.raises(BundleError, match=r"run it on onnxruntime or .*\nrgb: left out, no fp16"):
        list(build_plans(tiny_bundle))
    with pytest.raises(PlanCacheError, match="can only be read serves plans"):
        list(build_plans(typed_bundle, "rgb", Path("/sys/kernel/loupe")))


def test_a_station_builds_what_is_missing_and_runs(
    nvidia: Any, station_of: Callable[..., Station], make_frame: MakeFrame
) -> None:
    station = station_of()
    assert station.engine.variant == "fp16"
    for n_builds in (1, 1):
        publisher = ListPublisher()
        camera = ListCamera([make_frame(), make_frame("defect")])
        with open_service(station, lock_step=True, publisher=publisher, camera=camera) as service:
            service.run()
        assert [v.decision for v in publisher.verdicts] == ["good", "defect"]
        assert nvidia.build.n_builds == n_builds
        assert nvidia.gpu.stack == []


@pytest.mark.parametrize("lock_step", [False, True])
def test_a_sticky_error_is_unknown_and_then_the_end_of_the_service(
    nvidia: Any, service_of: Callable[..., Any], lock_step: bool
) -> None:
    opened, publisher = service_of(5, lock_step=lock_step)
    with opened as service:
        nvidia.gpu.is_lost = True
        with pytest.raises(EngineLostError, match="the GPU is lost"):
            service.run()
    (verdict,) = publisher.verdicts
    assert verdict.decision == "unknown"
    assert "illegal memory access" in verdict.reason
    assert publisher.heartbeats[-1].state == "fault"


def test_a_failure_that_passes_is_one_unknown(nvidia: Any, service_of: Callable[..., Any]) -> None:
    opened, publisher = service_of(3)
    with opened as service:
        for i, _ in enumerate(service.verdicts()):
            nvidia.gpu.fails_once = "launch timed out" if i == 0 else ""
    assert [v.decision for v in publisher.verdicts] == ["good", "unknown", "good"]


@pytest.mark.usefixtures("nvidia")
def test_a_machine_without_a_gpu_says_so(
    typed_bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        from pycuda import driver

        raise driver.LogicError("cuInit failed: no CUDA-capable device is detected")

    monkeypatch.setattr("pycuda.driver.init", refuse)
    with pytest.raises(EngineError, match=r"no CUDA-capable device.*loupe-edge doctor"):
        open_engine(typed_bundle, "rgb", EngineSettings(kind="tensorrt", cache=cache))


def test_without_tensorrt_the_choice_is_explained(typed_bundle: Bundle, cache: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "sys.modules['tensorrt'] = None\n"
        "from loupe_edge.build import build_plans; from loupe_models.bundle import load_bundle\n"
        "from loupe_calibration.errors import BadInputError\n"
        "try: list(build_plans(load_bundle(Path(sys.argv[1]))))\n"
        "except BadInputError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(typed_bundle.path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "loupe-edge doctor" in run.stdout
    assert not cache.exists()
    assert issubclass(PlanCacheError, BadInputError)


def test_an_interrupted_command_keeps_nothing_and_ends_by_the_interrupt(
    typed_bundle: Bundle, cache: Path
) -> None:
    program = (
        "import sys, time, tensorrt; sys.modules['cuda'] = None\n"
        "def slowly(): print('step', flush=True); time.sleep(0.05)\n"
        "tensorrt.BUILD.between_steps = slowly; tensorrt.BUILD.n_steps = 50\n"
        "from loupe_edge.cli import main; main()\n"
    )
    path = os.pathsep.join([str(HERE / "stand_ins"), *sys.path])
    words = ["build", str(typed_bundle.path), "--mode", "rgb", "--cache", str(cache)]
    with subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in told
    assert plans(cache) == []
