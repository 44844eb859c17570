"""Only the inspected area decides: not the border, and nothing the mask leaves out."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch

from loupe_calibration.errors import BadInputError
from loupe_models.graph_lint import lint_graph
from loupe_trainer.errors import RecipeError
from loupe_trainer.export import export_onnx
from loupe_trainer.methods import get_method
from loupe_trainer.methods.efficientad.area import InspectedArea, read_roi
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector
from loupe_trainer.teachers.pdn import PdnShape, student_network, teacher_network

SHAPE = PdnShape("S", 0.07)
SIZE_HW = (128, 160)


def left_half(height: int, width: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros((height, width), np.bool_)
    mask[:, : width // 2] = True
    return mask


def make_detector(area: InspectedArea | None = None) -> EfficientAdDetector:
    torch.manual_seed(1)
    networks = teacher_network(SHAPE), student_network(SHAPE), Autoencoder(SHAPE, SIZE_HW)
    return EfficientAdDetector(*networks, 0.5, area).eval()


@torch.no_grad()
def test_a_network_content_with_all_of_a_part_does_not_answer_zero() -> None:
    """The border's 0 would be the maximum of a map that is negative throughout."""
    detector = make_detector()
    rgb = torch.full((1, *SIZE_HW, 3), 90, dtype=torch.uint8)
    for scale in (detector.local_scale, detector.global_scale):
        scale.low.fill_(50.0)
        scale.high.fill_(60.0)
    anomaly_map, score = detector(rgb)
    assert float(score) < -0.01
    assert float(score) == float(anomaly_map[:, :, 16:-16, 16:-16].max())
    assert float(anomaly_map.max()) == 0  # the published border


@torch.no_grad()
def test_the_published_map_is_zero_outside_and_unchanged_inside() -> None:
    rgb = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, *SIZE_HW, 3), np.uint8))
    whole, _ = make_detector()(rgb)
    half, score = make_detector(InspectedArea(SIZE_HW, left_half(64, 80)))(rgb)
    assert half[..., 82:].abs().max() == 0  # two px of blend at the edge
    assert torch.equal(half[..., :78], whole[..., :78])
    assert float(score) == float(half[..., :80].max())


@torch.no_grad()
def test_nothing_that_happens_outside_changes_the_score() -> None:
    rng = np.random.default_rng(0)
    detector = make_detector(InspectedArea(SIZE_HW, left_half(*SIZE_HW)))
    detector.global_weight = 0.0  # the autoencoder sees the whole part, by design
    plain = rng.integers(0, 256, (1, *SIZE_HW, 3), np.uint8)
    spoiled = plain.copy()
    spoiled[:, :, 80 + 17 :] = 255 - spoiled[:, :, 80 + 17 :]  # beyond reach of a 33 px patch
    (before, score), (after, same) = (detector(torch.from_numpy(x)) for x in (plain, spoiled))
    assert float(score) == float(same)
    assert torch.equal(before, after)
    spoiled[:, 60:70, 30:40] = 255
    assert float(detector(torch.from_numpy(spoiled))[1]) != float(score)


def test_a_mask_of_any_size_falls_on_the_maps_grid() -> None:
    grids = [InspectedArea(SIZE_HW, left_half(h, w)).inside for h, w in ((32, 40), (700, 900))]
    expected = torch.zeros(1, 1, 32, 40, dtype=torch.bool)
    expected[:, :, 4:-4, 4:20] = True
    assert all(torch.equal(grid, expected) for grid in grids)
    assert torch.equal(InspectedArea(SIZE_HW, left_half(3, 4)).inside, expected)


def test_quantiles_are_of_inspected_pixels_alone(tmp_path: Path) -> None:
    mask = tmp_path / "roi.png"
    assert cv2.imwrite(str(mask), left_half(*SIZE_HW).astype(np.uint8) * 255)
    settings: dict[str, object] = {"height_px": SIZE_HW[0], "width_px": SIZE_HW[1]}
    method = get_method("efficientad", settings | {"roi": "roi.png"}, 0, tmp_path, ("rgb",))
    detector = make_detector(InspectedArea(SIZE_HW, read_roi(mask)))
    samples = [
        {"rgb": np.random.default_rng(i).integers(0, 256, (1, *SIZE_HW, 3), np.uint8)}
        for i in range(3)
    ]
    method.normalise({"rgb": detector}, samples)
    with torch.no_grad():
        raw = [detector.raw_maps(torch.from_numpy(s["rgb"])) for s in samples]
    for branch, scale in enumerate((detector.local_scale, detector.global_scale)):
        pixels = np.concatenate([maps[branch][0, 0, :, :16].numpy().ravel() for maps in raw])
        assert float(scale.low) == pytest.approx(np.quantile(pixels, 0.9), rel=1e-5)
        assert float(scale.high) == pytest.approx(np.quantile(pixels, 0.995), rel=1e-5)


def test_the_mask_is_a_constant_of_the_graph(tmp_path: Path) -> None:
    detector = make_detector(InspectedArea(SIZE_HW, left_half(*SIZE_HW)))
    rgb = np.random.default_rng(3).integers(0, 256, (1, *SIZE_HW, 3), np.uint8)
    file = tmp_path / "rgb.fp32.onnx"
    inputs, outputs = export_onnx(detector, {"rgb": rgb}, file)
    assert [spec.name for spec in inputs] == ["rgb"]
    lint_graph(file, inputs, outputs)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    anomaly_map, score = session.run(None, {"rgb": rgb})
    with torch.no_grad():
        expected_map, expected_score = detector(torch.from_numpy(rgb))
    np.testing.assert_allclose(anomaly_map, expected_map.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(score, expected_score.numpy(), rtol=1e-4)
    assert np.abs(anomaly_map[..., 82:]).max() == 0


@pytest.mark.parametrize(
    ("white_columns", "says"),
    [(None, "No such file"), (0, "black all over"), (1, "leaves nothing to inspect")],
)
def test_masks_that_cannot_serve_are_refused_before_anything_is_read(
    tmp_path: Path, white_columns: int | None, says: str
) -> None:
    if white_columns is not None:
        mask = np.zeros((20, 20), np.uint8)
        mask[:, :white_columns] = 255
        assert cv2.imwrite(str(tmp_path / "roi.png"), mask)
    with pytest.raises((RecipeError, BadInputError), match=says):
        get_method("efficientad", {"roi": "roi.png"}, 0, tmp_path, ("rgb",))
