"""How large the FP16 graph's tensors become, told by the float32 graph.

ONNX Runtime's CPU keeps FP16 results in float32, so that graph cannot overflow here; the float32
graph holds the same tensors at their true size. Both are traced from the same modules. Casts aside,
they are the same nodes in the same order, and whatever differs is an error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine
from loupe_models.manifest import TensorSpec
from loupe_models.preprocess import Tensors
from loupe_trainer.errors import HalfError

LARGEST: Final = 16_000.0  # a quarter of FP16's 65,504
FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16)

Magnitudes = dict[str, float]


def match_tensors(reference: onnx.ModelProto, half: onnx.ModelProto) -> dict[str, str]:
    """Find each computed FP16 tensor in the float32 graph.

    Args:
        reference: Of the float32 network.
        half: Of its copy.

    Returns:
        Names in `half`, in the order in which they are computed, to names in `reference`.

    Raises:
        HalfError: The graphs differ in more than their casts.
    """
    ours, theirs = _Trace(reference), _Trace(half)
    for mine, other in zip(ours.nodes, theirs.nodes, strict=False):
        if ours.reading(mine) != theirs.reading(other):
            raise HalfError(
                f"the FP16 graph is not the float32 graph's: {other.name} ({other.op_type}) stands "
                f"where {mine.name} ({mine.op_type}) does; make what the network computes "
                f"independent of its dtype"
            )
    if len(ours.nodes) != len(theirs.nodes):
        raise HalfError(
            f"the FP16 graph has {len(theirs.nodes)} nodes, the float32 graph {len(ours.nodes)}; "
            f"make what the network computes independent of its dtype"
        )
    matched: dict[str, str] = {}
    for name in theirs.half_names():
        same = ours.name_of(theirs.place_of(name))
        if same not in matched.values():
            matched[name] = same
    return matched


class MagnitudeProbe:
    """The float32 graph, which tells beside its answer how large each FP16 tensor would be.

    Args:
        reference: The float32 graph.
        half: The FP16 graph, whose tensors are looked at.
        inputs: Of both.
        outputs: Of both.
    """

    def __init__(
        self, reference: Path, half: Path, inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:  # fmt: skip
        model = onnx.load(reference)
        matched = match_tensors(model, onnx.load(half))
        self._names = {f"largest_{i}": name for i, name in enumerate(matched)}
        for told, tensor in zip(self._names, matched.values(), strict=True):
            _tell_largest(model.graph, tensor, told)
        specs = [TensorSpec(name=told, dtype="float32", shape=()) for told in self._names]
        with tempfile.TemporaryDirectory(prefix="loupe-range-") as folder:
            file = Path(folder) / reference.name
            onnx.save(model, file)
            self._engine = OnnxRuntimeEngine(file, inputs, (*outputs, *specs))

    def largest(self, tensors: Tensors) -> Magnitudes:
        """Give the largest magnitude of every FP16 tensor on one input, in order."""
        answer = self._engine.infer(tensors)
        return {name: float(answer[told]) for told, name in self._names.items()}

    def __enter__(self) -> MagnitudeProbe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._engine.close()


def check_range(found: Mapping[str, float], what: str) -> float:
    """Make sure that no FP16 tensor comes near FP16's end.

    Args:
        found: Largest magnitudes, in order.
        what: The input, for the message.

    Returns:
        The largest of them; 0 where there is none.

    Raises:
        HalfError: One is above 16,000 or not finite; names the first.
    """
    for name, largest in found.items():
        if not largest <= LARGEST:
            raise HalfError(
                f"{name} reaches {largest:.3g} on {what}, and FP16 is trusted to {LARGEST:,.0f}"
            )
    return max(found.values(), default=0.0)


def check_weights(half: Path) -> None:
    """Make sure that the same holds for the FP16 graph's constants.

    Raises:
        HalfError: One is too large or not finite; names the first.
    """
    graph = onnx.load(half).graph
    inside = [(n.output[0], a.t) for n in graph.node for a in n.attribute if a.name == "value"]
    for name, tensor in (*((t.name, t) for t in graph.initializer), *inside):
        if tensor.data_type == TensorProto.FLOAT16:
            values = np.abs(numpy_helper.to_array(tensor).astype(np.float32))
            check_range({name: float(values.max(initial=0))}, "no input at all: it is a weight")


class _Trace:
    """A graph's nodes without its casts between floats, and where each tensor comes from."""

    def __init__(self, model: onnx.ModelProto) -> None:
        typed = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        graph = typed.graph
        values = (*graph.value_info, *graph.input, *graph.output)
        self._kind = {v.name: v.type.tensor_type.elem_type for v in values}
        self._kind |= {t.name: t.data_type for t in graph.initializer}
        self._source: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self._constants = {t.name for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self._constants.add(node.output[0])
            elif self._passes(node):
                self._source[node.output[0]] = self._origin(node.input[0])
            else:
                self.nodes.append(node)
        made = {
            name: (i, k) for i, node in enumerate(self.nodes) for k, name in enumerate(node.output)
        }
        self._place: dict[str, tuple[int, int] | str] = {v.name: v.name for v in graph.input}
        self._place |= made
        self._at = {place: name for name, place in self._place.items()}

    def place_of(self, name: str) -> tuple[int, int] | str:
        """Say which node makes a tensor; an input's is its name, all constants are alike."""
        origin = self._origin(name)
        return "a constant" if origin in self._constants else self._place.get(origin, "nothing")

    def name_of(self, place: tuple[int, int] | str) -> str:
        """Give the tensor of a place."""
        return self._at[place]

    def reading(self, node: onnx.NodeProto) -> tuple[str, list[tuple[int, int] | str]]:
        """Say what a node does, and to what."""
        return node.op_type, [self.place_of(name) for name in node.input]

    def half_names(self) -> list[str]:
        """Name what is computed in FP16, in order."""
        made = [*self._source, *(name for node in self.nodes for name in node.output)]
        half = {name for name in made if self._kind.get(name) == TensorProto.FLOAT16}
        places = {name: self.place_of(name) for name in half}
        known = {name: place for name, place in places.items() if place != "a constant"}
        order = {place: i for i, place in enumerate(self._at)}
        return sorted(known, key=lambda name: (order[known[name]], name in self._source))

    def _passes(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Identity":
            return True
        return node.op_type == "Cast" and all(
            self._kind.get(name) in FLOATS for name in (node.input[0], node.output[0])
        )

    def _origin(self, name: str) -> str:
        return self._source.get(name, name)


def _tell_largest(graph: onnx.GraphProto, tensor: str, told: str) -> None:
    graph.node.append(onnx.helper.make_node("Abs", [tensor], [f"{told}_abs"]))
    graph.node.append(onnx.helper.make_node("ReduceMax", [f"{told}_abs"], [told], keepdims=0))
    graph.output.append(onnx.helper.make_tensor_value_info(told, TensorProto.FLOAT, []))
