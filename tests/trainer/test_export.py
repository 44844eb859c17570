"""From torch to ONNX: the same numbers, and a graph that keeps the contract."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from loupe_models.errors import GraphError
from loupe_models.graph_lint import lint_graph
from loupe_trainer.export import export_onnx
from loupe_trainer.methods.base import Detector
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector
from loupe_trainer.teachers.pdn import PdnShape, PdnSize, student_network, teacher_network

RNG = np.random.default_rng(0)


def make_detector(size: PdnSize, size_hw: tuple[int, int]) -> EfficientAdDetector:
    torch.manual_seed(1)
    shape = PdnShape(size, 0.07)
    return EfficientAdDetector(
        teacher_network(shape), student_network(shape), Autoencoder(shape, size_hw)
    )


@pytest.mark.parametrize(("size", "size_hw"), [("S", (128, 192)), ("M", (160, 128))])
def test_onnx_runtime_says_what_torch_says(
    tmp_path: Path, size: PdnSize, size_hw: tuple[int, int]
) -> None:
    detector = make_detector(size, size_hw)
    rgb = RNG.integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)
    file = tmp_path / "rgb.fp32.onnx"
    inputs, outputs = export_onnx(detector, {"rgb": rgb}, file)
    assert [(s.name, s.dtype, s.shape) for s in inputs] == [("rgb", "uint8", (1, *size_hw, 3))]
    assert [(s.name, s.dtype, s.shape) for s in outputs] == [
        ("anomaly_map", "float32", (1, 1, *size_hw)),
        ("image_score", "float32", (1,)),
    ]
    lint_graph(file, inputs, outputs)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    anomaly_map, image_score = session.run(None, {"rgb": rgb})
    with torch.no_grad():
        expected_map, expected_score = detector(torch.from_numpy(rgb))
    np.testing.assert_allclose(anomaly_map, expected_map.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(image_score, expected_score.numpy(), rtol=1e-4)
    assert float(anomaly_map.max()) == float(image_score[0])
    assert (anomaly_map[0, 0, :8] < expected_map.max().item()).all()


def test_the_graph_casts_first_and_normalises_once(tmp_path: Path) -> None:
    file = tmp_path / "graph.onnx"
    rgb = np.zeros((1, 128, 128, 3), np.uint8)
    export_onnx(make_detector("S", (128, 128)), {"rgb": rgb}, file)
    graph = onnx.load(file).graph
    (cast,) = [node for node in graph.node if "rgb" in node.input]
    assert cast.op_type == "Cast"
    (transpose,) = [node for node in graph.node if cast.output[0] in node.input]
    assert transpose.op_type == "Transpose"
    (subtract,) = [node for node in graph.node if transpose.output[0] in node.input]
    assert subtract.op_type == "Sub"
    (divide,) = [node for node in graph.node if subtract.output[0] in node.input]
    assert divide.op_type == "Div"
    readers = [node for node in graph.node if divide.output[0] in node.input]
    # the cast to the autoencoder's own precision; the first layer of the others is float32
    assert sorted(node.op_type for node in readers) == ["Cast", "Slice"]
    # teacher and student share what is left of the picture where whole patches reach
    (rows,) = [node for node in readers if node.op_type == "Slice"]
    (columns,) = [node for node in graph.node if rows.output[0] in node.input]
    assert columns.op_type == "Slice"
    stems = [node.op_type for node in graph.node if columns.output[0] in node.input]
    assert stems == ["Conv", "Conv"]
    assert "Mod" not in {node.op_type for node in graph.node}  # how far they reach is a constant


class _Answers(Detector):
    def __init__(self, answer: str) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        picture = rgb.float().mean(3)[:, None]
        if self.answer == "shape":
            return picture[0], picture.amax(dim=(1, 2, 3))
        if self.answer == "dtype":
            return picture.double(), picture.amax(dim=(1, 2, 3))
        return torch.cumsum(picture, dim=3), picture.amax(dim=(1, 2, 3))


@pytest.mark.parametrize(
    ("answer", "message"), [("shape", "anomaly_map"), ("dtype", "double"), ("op", "CumSum")]
)
def test_a_graph_that_breaks_the_contract_is_refused(
    tmp_path: Path, answer: str, message: str
) -> None:
    rgb = np.zeros((1, 16, 16, 3), np.uint8)
    with pytest.raises(GraphError, match=message):
        export_onnx(_Answers(answer), {"rgb": rgb}, tmp_path / "graph.onnx")
    assert not (tmp_path / "graph.onnx").exists()
