"""A vision transformer as a graph: the same answers, static, float32 where it has to be."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from loupe_trainer.encoders.vit import Vit, initialise
from loupe_trainer.encoders.vit_spec import VitSpec

KINDS: dict[str, dict[str, object]] = {
    "dino": {},
    "dinov2": {"n_registers": 4, "layer_scale": True, "gated": True, "activation": "silu"},
    "dinov3": {"n_registers": 4, "layer_scale": True, "positions": "rotary"},
}
IN_FLOAT32 = ("Softmax", "LayerNormalization", "Erf", "Sigmoid")


def make(kind: str) -> Vit:
    spec = {"channels": 64, "depth": 2, "n_heads": 4, "hidden": 96, "patch_px": 8,
            "input_hw_px": (32, 48)} | KINDS[kind]  # fmt: skip
    vit = initialise(Vit(VitSpec.model_validate(spec)), seed=1).eval()
    return vit.requires_grad_(requires_grad=False)


def export(network: nn.Module, picture: torch.Tensor) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        file = Path(folder) / "vit.onnx"
        for message in ("You are using the legacy TorchScript", "The feature will be removed"):
            warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        torch.onnx.export(
            network, (picture,), file, dynamo=False, opset_version=17,
            input_names=["picture"], output_names=["described"],
        )  # fmt: skip
        model = onnx.load(file)
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def run(
    model: onnx.ModelProto, picture: torch.Tensor
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {"picture": picture.numpy()})[0], np.float32)


def dtypes_by_op(model: onnx.ModelProto) -> dict[str, set[int]]:
    """Give the element types that each kind of node reads first."""
    of_tensor = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    of_tensor |= {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
    of_tensor |= {v.name: v.data_type for v in model.graph.initializer}
    seen: dict[str, set[int]] = defaultdict(set)
    for node in model.graph.node:
        if node.input:
            seen[node.op_type].add(of_tensor[node.input[0]])
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_is_static_and_says_what_torch_says(kind: str) -> None:
    vit, picture = make(kind), torch.rand(1, 3, 32, 48) * 255
    model = export(vit, picture)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, picture), vit(picture).numpy(), rtol=1e-4, atol=1e-5)
    shape = model.graph.output[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [1, 64, 4, 6]
    ops = {node.op_type for node in model.graph.node}
    # Positions are interpolated before, and no shape is computed while it runs.
    assert not ops & {"Resize", "Shape", "If", "Loop", "Range", "NonZero", "Einsum"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_half_copy_keeps_its_delicate_nodes_in_float32(kind: str) -> None:
    vit, picture = make(kind), torch.rand(1, 3, 32, 48) * 255
    model = export(copy.deepcopy(vit).half(), picture)
    onnx.checker.check_model(model, full_check=True)
    seen = dtypes_by_op(model)
    half, full = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for op in IN_FLOAT32:
        assert seen.get(op, {full}) == {full}, op
    assert {"Softmax", "LayerNormalization"} < seen.keys()
    assert ("Sigmoid" if kind == "dinov2" else "Erf") in seen
    assert seen["MatMul"] == {half}
    assert seen["Conv"] == {half}
    assert model.graph.output[0].type.tensor_type.elem_type == full
    # Rounded weights move tokens of unit spread by less than a hundredth.
    np.testing.assert_allclose(run(model, picture), vit(picture).numpy(), atol=0.02)


def test_half_arithmetic_stays_close_at_large_residuals() -> None:
    """Torch's own half precision, at the size of DINO's residuals: no overflow, small error."""
    vit, picture = make("dino"), torch.rand(1, 3, 32, 48) * 255
    with torch.no_grad():
        vit.class_token.add_(200)
        described = copy.deepcopy(vit).half()(picture)
    assert described.dtype == torch.float32
    assert described.isfinite().all()
    torch.testing.assert_close(described, vit(picture), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"n_heads": 5}, "do not divide into 5 heads"),
        ({"input_hw_px": (36, 48)}, "choose multiples of 8"),
        ({"input_hw_px": (0, 48)}, "a side has 8 to 4096"),
        ({"input_hw_px": (2048, 2048)}, "65536 patches a picture"),
        ({"positions": "rotary", "n_heads": 32}, "multiple of 4 channels"),
    ],
)
def test_an_impossible_network_is_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        VitSpec.model_validate(make("dino").spec.model_dump() | wrong)
