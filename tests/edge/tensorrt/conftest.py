"""A bundle with typed graphs, stations on TensorRT, and cuda-python's stand-in."""

from __future__ import annotations

import importlib
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from loupe_edge.assembly import open_service
from loupe_edge.errors import EngineError
from loupe_edge.fakes import ListCamera
from loupe_edge.publisher import ListPublisher
from loupe_edge.service import Service
from loupe_edge.station import Station
from loupe_models.bundle import Bundle, write_bundle
from loupe_models.frame import Frame
from loupe_models.manifest import Variant

HERE = Path(__file__).parent
TYPED_TOLERANCE = 0.05


@pytest.fixture
def cuda_python(nvidia: Any, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ARG001
    """The same machine, with cuda-python too."""
    monkeypatch.delitem(sys.modules, "cuda")
    monkeypatch.setattr(sys, "path", [str(HERE / "graph_stand_in"), *sys.path])
    importlib.invalidate_caches()
    return importlib.import_module("cuda.bindings.runtime")


def typed(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its first product of two in FP16, between explicit casts."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        if node.op_type == "Mul" and not any(n.op_type == "Mul" for n in nodes):
            halves = [f"{name}_f16" for name in node.input]
            for name, half in zip(node.input, halves, strict=True):
                nodes.append(helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Mul", halves, [f"{node.output[0]}_f16"]))
            nodes.append(
                helper.make_node(
                    "Cast", [f"{node.output[0]}_f16"], list(node.output), to=TensorProto.FLOAT
                )
            )
        else:
            nodes.append(node)
    twin = onnx.ModelProto()
    twin.CopyFrom(graph)
    del twin.graph.node[:]
    twin.graph.node.extend(nodes)
    return twin


@pytest.fixture(scope="session")
def typed_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with a typed graph beside each reference; do not alter its files."""
    manifest = tiny_bundle.manifest

    def fill(folder: Path) -> None:
        shutil.copytree(tiny_bundle.path, folder, dirs_exist_ok=True)
        (folder / "manifest.json").unlink()
        for mode in manifest.modes:
            onnx.save(typed(onnx.load(folder / f"{mode}.fp32.onnx")), folder / f"{mode}.fp16.onnx")

    modes = {
        name: mode.model_copy(
            update={
                "variants": {
                    **mode.variants,
                    "fp16": Variant(
                        file=f"{name}.fp16.onnx", precision="fp16", tolerance=TYPED_TOLERANCE
                    ),
                }
            }
        )
        for name, mode in manifest.modes.items()
    }
    place = tmp_path_factory.mktemp("typed") / "bundle"
    return write_bundle(
        place,
        fill,
        lambda files: manifest.model_copy(update={"modes": modes, "files": dict(files)}),
    )


@pytest.fixture
def ask(typed_bundle: Bundle) -> Callable[[int], dict[str, np.ndarray[Any, Any]]]:
    """`ask(seed)`: tensors as mode rgb takes them."""
    (spec,) = typed_bundle.mode("rgb").inputs

    def make(seed: int) -> dict[str, np.ndarray[Any, Any]]:
        rng = np.random.default_rng(seed)
        return {"rgb": rng.integers(0, 255, spec.shape, np.uint8)}

    return make


@pytest.fixture
def station_of(
    make_station: Callable[..., Station], typed_bundle: Bundle, tmp_path: Path
) -> Callable[..., Station]:
    """`station_of(mode, front, **sections)`: on TensorRT, its cache in `tmp_path`."""

    def make(mode: str = "rgb", front: str = "cpu", **sections: object) -> Station:
        engine = {"kind": "tensorrt", "cache": tmp_path / "cache", "front": front}
        return make_station(mode, bundle=typed_bundle.path, engine=engine, **sections)

    return make


@pytest.fixture
def service_of(
    station_of: Callable[..., Station], make_frame: Callable[..., Frame]
) -> Callable[..., tuple[AbstractContextManager[Service], ListPublisher]]:
    """`service_of(n_frames, front, lock_step)`: a station's service, and what it says."""

    def make(
        n_frames: int, front: str = "cpu", *, lock_step: bool = True
    ) -> tuple[AbstractContextManager[Service], ListPublisher]:
        camera = ListCamera([make_frame(frame_id=i) for i in range(n_frames)])
        publisher = ListPublisher()
        station = station_of(front=front)
        return open_service(
            station, lock_step=lock_step, publisher=publisher, camera=camera
        ), publisher

    return make


@pytest.fixture
def check(call: Callable[..., Any], typed_bundle: Bundle, tmp_path: Path) -> Callable[[str], Any]:
    """`check(front)`: `loupe-edge check` of a station on TensorRT, whose plans lie in `plans`."""

    def run(front: str) -> Any:
        (tmp_path / "part.db3").touch()
        file = tmp_path / "station.toml"
        file.write_text(
            f'station = "press-3"\nbundle = "{typed_bundle.path}"\n'
            '[camera]\nrecording = "part.db3"\n'
            f'[engine]\nkind = "tensorrt"\nfront = "{front}"\ncache = "plans"\n',
            encoding="utf-8",
        )
        return call("check", file)

    return run


@pytest.fixture
def refused_elsewhere() -> Callable[..., list[str]]:
    """`refused_elsewhere(*calls)`: what each says when another thread calls it."""
    told: list[str] = []

    def refuse(*calls: Callable[[], object]) -> list[str]:
        def intrude() -> None:
            for one in calls:
                with pytest.raises(EngineError) as caught:
                    one()
                told.append(str(caught.value))

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
        return told

    return refuse
