"""Large pictures by tiles: no seam, no blind stripe, and all of it inside the graph."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from loupe_models.graph_lint import lint_graph
from loupe_trainer.errors import RecipeError
from loupe_trainer.export import export_onnx
from loupe_trainer.methods import get_method
from loupe_trainer.methods.efficientad.area import InspectedArea
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector
from loupe_trainer.methods.efficientad.tiling import Tiling, open_tiling, tile_starts
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.corpus import TextureCorpus
from loupe_trainer.teachers.pdn import PdnShape, student_network, teacher_network

SHAPE = PdnShape("S", 0.07)
RNG = np.random.default_rng(1)


def make_detector(size_hw: tuple[int, int], tile_px: int | None) -> EfficientAdDetector:
    torch.manual_seed(1)
    tile_hw = size_hw if tile_px is None else (tile_px, tile_px)
    networks = teacher_network(SHAPE), student_network(SHAPE), Autoencoder(SHAPE, tile_hw)
    area, tiling = InspectedArea(size_hw), open_tiling(size_hw, tile_px)
    return EfficientAdDetector(*networks, 0.5, area, tiling).eval()


@pytest.mark.parametrize("tile_px", [128, 160, 256])
@pytest.mark.parametrize("size_px", [256, 288, 512, 768, 1024, 4096])
def test_tiles_cover_every_map_pixel_and_overlap(size_px: int, tile_px: int) -> None:
    starts = tile_starts(size_px, tile_px)
    assert starts[0] == 0
    assert starts[-1] + tile_px == size_px
    assert all(start % 4 == 0 for start in starts)
    # a tile's map lacks 16 px on each side, and neighbours share at least 32 px of answers
    assert all(b + 16 <= a + tile_px - 16 - 32 for a, b in pairwise(starts))
    assert len(starts) == 1 + max(0, -(-(size_px - tile_px) // (tile_px - 64)))


def test_what_is_cut_is_put_together_again() -> None:
    """A map of the picture's own values survives the way through the tiles."""
    size_hw = (256, 416)
    tiling = Tiling(size_hw, 128)
    whole = torch.randn(1, 1, *(n // 4 - 8 for n in size_hw))
    as_picture = torch.zeros(1, 1, *size_hw)
    as_picture[:, :, 16:-16, 16:-16] = whole.repeat_interleave(4, 2).repeat_interleave(4, 3)
    maps = tiling.cut(as_picture)[:, :, 16:-16:4, 16:-16:4]
    assert maps.shape == (tiling.n_tiles, 1, 24, 24)
    torch.testing.assert_close(tiling.stitch(maps), whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(tiling.stitch(torch.ones_like(maps)), torch.ones_like(whole))


def test_pictures_are_cut_for_training_as_in_the_graph() -> None:
    rgb = RNG.integers(0, 256, (2, 256, 192, 3), dtype=np.uint8)
    tiling = Tiling((256, 192), 128)
    tiles = tiling.cut_pictures(rgb)
    assert tiles.shape == (2 * tiling.n_tiles, 128, 128, 3)
    for i in range(2):
        in_graph = tiling.cut(torch.from_numpy(rgb[i : i + 1]).permute(0, 3, 1, 2))
        own = tiles[i * tiling.n_tiles : (i + 1) * tiling.n_tiles]
        assert np.array_equal(own, in_graph.permute(0, 2, 3, 1).numpy())


@torch.no_grad()
def test_the_student_teacher_map_is_that_of_the_whole_picture() -> None:
    size_hw = (256, 352)
    rgb = torch.from_numpy(RNG.integers(0, 256, (1, *size_hw, 3), dtype=np.uint8))
    tiled, _ = make_detector(size_hw, 128).raw_maps(rgb)
    whole, _ = make_detector(size_hw, None).raw_maps(rgb)
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_the_autoencoders_map_has_no_seam() -> None:
    """Where one tile hands over to the next, the map changes as smoothly as within a tile."""
    tiling = Tiling((128, 320), 128)
    n = tiling.n_tiles
    levels = torch.arange(n).float().view(n, 1, 1, 1).expand(n, 1, 24, 24)  # each tile its own
    row = tiling.stitch(levels.contiguous())[0, 0, 10]
    assert float(row[0]) == 0
    assert float(row[-1]) == pytest.approx(n - 1)
    assert float(row.diff().min()) >= -1e-6
    assert float(row.diff().max()) <= 1 / 8  # not less than eight pixels from one to the next


@pytest.mark.parametrize(("size_hw", "tile_px"), [((512, 768), 256), ((128, 224), 128)])
def test_onnx_runtime_says_what_torch_says_of_tiles(
    tmp_path: Path, size_hw: tuple[int, int], tile_px: int
) -> None:
    detector = make_detector(size_hw, tile_px)
    rgb = RNG.integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)
    file = tmp_path / "rgb.fp32.onnx"
    inputs, outputs = export_onnx(detector, {"rgb": rgb}, file)
    lint_graph(file, inputs, outputs)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    anomaly_map, image_score = session.run(None, {"rgb": rgb})
    with torch.no_grad():
        expected_map, expected_score = detector(torch.from_numpy(rgb))
    assert anomaly_map.shape == (1, 1, *size_hw)
    np.testing.assert_allclose(anomaly_map, expected_map.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(image_score, expected_score.numpy(), rtol=1e-4)
    counts = Counter(node.op_type for node in onnx.load(file).graph.node)
    assert counts["Gather"] == 2
    assert counts["MatMul"] == 4  # rows and columns of two maps, however many tiles
    assert counts["Sub"] == 1 + 2 + 2  # ImageNet's mean, two differences, two scales


def test_a_run_with_tiles_learns_and_is_scored_on_the_whole_map(tmp_path: Path) -> None:
    size_hw = (192, 256)
    samples = [{"rgb": TextureCorpus().picture(RNG, *size_hw)[None]} for _ in range(4)]
    settings: dict[str, object] = {
        "height_px": size_hw[0], "width_px": size_hw[1], "tile_px": 128, "steps": 4, "lr": 1e-3,
        "n_penalty_pictures": 2,
        "pretrain": {"width": SHAPE.width, "steps": 3, "batch": 8, "n_pictures": 4},
    }  # fmt: skip
    method = get_method("efficientad", settings, 0, Path(), ("rgb",))
    detector = method.fit(samples[:3], samples[3:], RunFolder(tmp_path), SilentProgress())["rgb"]
    method.normalise({"rgb": detector}, samples[3:])
    assert isinstance(detector, EfficientAdDetector)
    assert detector.autoencoder.input_hw == (128, 128)
    with torch.no_grad():
        anomaly_map, score = detector(torch.from_numpy(np.asarray(samples[0]["rgb"])))
    assert anomaly_map.shape == (1, 1, *size_hw)
    assert float(score) == float(anomaly_map[:, :, 16:-16, 16:-16].max())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"tile_px": 96}, r"fit\.tile_px: .* bottleneck of at least 4 by 4"),
        ({"tile_px": 144}, r"set tile_px to a multiple of 32 from 128 up"),
        ({"tile_px": 288}, r"a tile of 288 px does not fit into a picture of 512 by 256 px"),
    ],
)
def test_tiles_that_cannot_work_are_refused(more: dict[str, object], says: str) -> None:
    settings = {"height_px": 256, "width_px": 512} | more
    with pytest.raises(RecipeError, match=says):
        get_method("efficientad", settings, 0, Path(), ("rgb",))
