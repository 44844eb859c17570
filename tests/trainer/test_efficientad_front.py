"""A longer exposure changes nothing, edges are inspected, and many weak pixels count."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from torch import nn

from loupe_models.graph_lint import lint_graph
from loupe_trainer.errors import RecipeError
from loupe_trainer.export import export_onnx
from loupe_trainer.methods import get_method
from loupe_trainer.methods.efficientad.area import InspectedArea
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector
from loupe_trainer.methods.efficientad.front import Level, Mirror, pass_front
from loupe_trainer.teachers.pdn import PdnShape, student_network, teacher_network

SHAPE = PdnShape("S", 0.07)
SIZE_HW = (128, 160)


def picture(seed: int = 0, gain: float = 1.0) -> npt.NDArray[np.uint8]:
    """Draw (1, H, W, 3), smooth, from 20 to 90 at a gain of 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] / 40
    waves = [np.sin(x * a + y * b) for a, b in rng.uniform(-2, 2, (3, 2))]
    return np.rint(gain * (55 + 35 * np.stack(waves, -1))[None]).astype(np.uint8)


def make_detector(top_share: float = 0, *, levelled: bool = False) -> EfficientAdDetector:
    torch.manual_seed(1)
    networks = teacher_network(SHAPE), student_network(SHAPE), Autoencoder(SHAPE, SIZE_HW)
    area = InspectedArea(SIZE_HW, None, top_share)
    detector = EfficientAdDetector(*networks, 0.5, area).eval()
    if levelled:
        detector.front = nn.Sequential(Level())
    return detector


@torch.no_grad()
def score(detector: EfficientAdDetector, rgb: npt.NDArray[np.uint8]) -> float:
    return float(detector(torch.from_numpy(rgb))[1])


def test_another_exposure_gives_the_same_score() -> None:
    plain, levelled = make_detector(), make_detector(levelled=True)
    others = [score(plain, picture(seed)) for seed in range(5)]
    unit = max(others) - min(others)
    moved = abs(score(plain, picture(gain=2.5)) - score(plain, picture()))
    held = abs(score(levelled, picture(gain=2.5)) - score(levelled, picture()))
    assert moved > 10 * held
    assert held < 0.1 * unit


def test_pictures_levelled_for_training_are_what_the_graph_makes_of_them() -> None:
    pictures = np.concatenate([picture(seed, gain) for seed, gain in ((0, 1.0), (1, 2.4))])
    in_graph = Level()(torch.from_numpy(pictures).permute(0, 3, 1, 2).float())
    beforehand = pass_front(nn.Sequential(Level()), pictures)
    assert torch.equal(in_graph, torch.from_numpy(beforehand).permute(0, 3, 1, 2).float())
    assert len(np.unique(beforehand)) > 100


def test_a_black_picture_does_not_become_noise() -> None:
    rng = np.random.default_rng(0)
    black = rng.integers(0, 2, (1, *SIZE_HW, 3)).astype(np.uint8)
    assert pass_front(nn.Sequential(Level()), black).std() < 20
    assert np.isfinite(score(make_detector(levelled=True), np.zeros_like(black)))


@torch.no_grad()
def test_the_score_is_the_mean_of_the_highest_share() -> None:
    rgb = torch.from_numpy(picture())
    local_map, global_map = make_detector().raw_maps(rgb)
    detector = make_detector(top_share=0.05)
    fused = 0.5 * detector.local_scale(local_map) + 0.5 * detector.global_scale(global_map)
    highest = np.sort(fused.numpy().ravel())[::-1]
    n = int(np.ceil(0.05 * len(highest)))
    assert score(detector, picture()) == pytest.approx(float(highest[:n].mean()), rel=1e-5)
    assert score(detector, picture()) < score(make_detector(), picture())


@torch.no_grad()
def test_what_the_mask_leaves_out_is_not_among_the_highest() -> None:
    left = np.zeros((16, 20), np.bool_)
    left[:, :10] = True
    torch.manual_seed(1)
    detector = make_detector()
    detector.area = InspectedArea(SIZE_HW, left, 0.1)
    local_map, global_map = detector.raw_maps(torch.from_numpy(picture()))
    fused = 0.5 * detector.local_scale(local_map) + 0.5 * detector.global_scale(global_map)
    inside = np.sort(detector.area.pixels(fused).numpy())[::-1]
    expected = float(inside[: int(np.ceil(0.1 * len(inside)))].mean())
    assert score(detector, picture()) == pytest.approx(expected, rel=1e-5)


def test_the_exported_graph_levels_and_scores_alike(tmp_path: Path) -> None:
    detector = make_detector(top_share=0.03, levelled=True)
    graph = tmp_path / "graph.onnx"
    inputs, outputs = export_onnx(detector, {"rgb": picture()}, graph)
    lint_graph(graph, inputs, outputs)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for gain in (0.6, 1.0, 2.5):
        _, answered = session.run(None, {"rgb": picture(3, gain)})
        assert float(answered[0]) == pytest.approx(score(detector, picture(3, gain)), rel=1e-3)


def test_more_pixels_than_the_device_sorts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"top_share: 0\.5 of 61504 pixels"):
        get_method(
            "efficientad",
            {"width_px": 1024, "height_px": 1024, "top_share": 0.5},
            0,
            tmp_path,
            ("rgb",),
        )


def test_a_picture_goes_on_beyond_its_edges_as_its_own_mirror_image() -> None:
    mirrored = pass_front(nn.Sequential(Mirror(SIZE_HW)), picture())
    expected = np.pad(picture(), ((0, 0), (16, 16), (16, 16), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(mirrored, expected)


@torch.no_grad()
def test_what_lies_at_the_very_edge_is_seen_where_edges_are_mirrored(tmp_path: Path) -> None:
    torch.manual_seed(1)
    wide_hw = (SIZE_HW[0] + 32, SIZE_HW[1] + 32)
    networks = teacher_network(SHAPE), student_network(SHAPE), Autoencoder(SHAPE, wide_hw)
    detector = EfficientAdDetector(*networks, 0.5, InspectedArea(SIZE_HW, border=0)).eval()
    detector.front = nn.Sequential(Mirror(SIZE_HW))
    spoilt = picture()
    spoilt[:, 60:66, :4] = 255
    graph = tmp_path / "graph.onnx"
    inputs, outputs = export_onnx(detector, {"rgb": picture()}, graph)
    lint_graph(graph, inputs, outputs)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    before, _ = session.run(None, {"rgb": picture()})
    after, answered = session.run(None, {"rgb": spoilt})
    assert after.shape == (1, 1, *SIZE_HW)
    assert np.abs(after - before)[0, 0, 56:70, :8].max() > 0
    assert float(answered[0]) == pytest.approx(score(detector, spoilt), rel=1e-3)
