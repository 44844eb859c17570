"""A bundle with typed graphs, and cuda-python's stand-in beside the others."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from loupe_models.bundle import Bundle, write_bundle
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
