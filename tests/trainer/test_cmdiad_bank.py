"""The memory bank: exact minima, its normalisation, re-weighting, and the exported graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from loupe_trainer.errors import DataError
from loupe_trainer.export import export_onnx
from loupe_trainer.methods.base import Detector
from loupe_trainer.methods.cmdiad import search
from loupe_trainer.methods.cmdiad.bank import MemoryBank
from loupe_trainer.methods.cmdiad.scoring import DistanceMap, reweight
from loupe_trainer.methods.cmdiad.search import NearestRow, make_table
from loupe_trainer.precision import KeepsFloat32

CHANNELS, GRID, SIZE = 96, 6, 48


def patches(n: int, channels: int = CHANNELS, seed: int = 0) -> Tensor:
    """Features as encoders give them: few directions matter, and the mean is not zero."""
    torch.manual_seed(seed)
    basis = torch.randn(12, channels, generator=torch.Generator().manual_seed(99))
    return torch.randn(n, 12) @ basis / 4 + 0.5 * torch.randn(n, channels) + 3.0


def as_tokens(features: Tensor, grid: int = GRID) -> Tensor:
    return features.T.reshape(1, -1, grid, grid).contiguous()


def brute_force(bank: MemoryBank, features: Tensor) -> Tensor:
    """Distances to all rows that the bank holds, as float32 differences."""
    rows = bank.search.rows(torch.arange(bank.search.n_rows)) * bank.search.unit
    queries = bank.normalise(features)
    return torch.stack([(q - rows).square().sum(dim=1).sqrt().min() for q in queries])


def near_duplicates() -> tuple[Tensor, Tensor]:
    some = patches(20)
    bank = some.repeat(20, 1) + 0.02 * torch.randn(400, CHANNELS)
    return bank, some.repeat(2, 1)[:36] + 0.02 * torch.randn(36, CHANNELS)


CASES: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "ordinary": lambda: (patches(500), patches(36, seed=1)),
    "near duplicates": near_duplicates,
    "features x 100": lambda: (100 * patches(500), 100 * patches(36, seed=1)),
    "features x 1e-6": lambda: (1e-6 * patches(500), 1e-6 * patches(36, seed=1)),
    "queries x 100": lambda: (patches(500), 100 * patches(36, seed=1)),
    "few rows": lambda: (patches(3), patches(36, seed=1)),
}


@pytest.mark.parametrize("n_dimensions", [None, 24])
@pytest.mark.parametrize("is_half", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_minima_equal_brute_force(name: str, is_half: bool, n_dimensions: int | None) -> None:
    rows, queries = CASES[name]()
    bank = MemoryBank(rows, n_dimensions)
    expected = brute_force(bank, queries)
    found = (bank.half() if is_half else bank)(as_tokens(queries))[0]
    torch.testing.assert_close(found.flatten(), expected, rtol=2e-6, atol=0.0)


def test_queries_are_ranked_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = patches(500), patches(36, seed=1)
    at_once = MemoryBank(rows)(as_tokens(queries))[0]
    monkeypatch.setattr(search, "MAX_RANKS", 500 * 10)
    torch.testing.assert_close(MemoryBank(rows)(as_tokens(queries))[0], at_once)


def test_a_shortlist_in_fp16_needs_more_than_one_row() -> None:
    """What the length of the shortlist is for: the product alone takes the wrong row at times."""
    torch.manual_seed(0)
    table, unit = make_table(torch.randn(4000, 128))
    queries = torch.randn(2000, 128)
    expected = NearestRow(table, unit, 1)(queries)[0]
    misses = {
        k: int((NearestRow(table, unit, k).half()(queries)[0] > expected * (1 + 1e-6)).sum())
        for k in (1, 8)
    }
    assert misses[1] > 0
    assert misses[8] == 0


def test_the_half_copy_keeps_its_constants_and_distances() -> None:
    bank = MemoryBank(patches(300), 24)
    half = copy.deepcopy(bank).half()
    for name in ("centre", "deviation", "axes"):
        assert torch.equal(getattr(half, name), getattr(bank, name))
    assert half.search.table.dtype == torch.float16
    assert torch.equal(half.search.table.float(), bank.search.table)
    assert half.double().deviation.dtype == torch.float32


def test_distances_count_in_the_banks_own_deviations() -> None:
    """Published: (x - mean) / std over all elements of this very bank."""
    rows, queries = patches(300), patches(36, seed=1)
    mean, deviation = rows.mean(), rows.std(correction=0)
    expected = torch.cdist((queries - mean) / deviation, (rows - mean) / deviation).amin(dim=1)
    found, _ = MemoryBank(rows)(as_tokens(queries))
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-3, atol=0.0)
    scaled, _ = MemoryBank(1000 * rows + 500)(as_tokens(1000 * queries + 500))
    torch.testing.assert_close(scaled, found, rtol=1e-3, atol=0.0)


def published_score(rows: Tensor, queries: Tensor) -> float:
    """The formula as it is written, in float64."""
    deviation = rows.double().std(correction=0)
    distances = torch.cdist(queries.double() / deviation, rows.double() / deviation)
    least, nearest = distances.min(dim=1)
    farthest = int(least.argmax())
    around = torch.cdist(rows.double(), rows.double())[nearest[farthest]]
    others = around.topk(3, largest=False).indices[1:]
    root = rows.shape[1] ** 0.5
    share = torch.exp(least[farthest] / root) / torch.exp(distances[farthest, others] / root).sum()
    return float((1 - share) * least[farthest])


def test_the_score_is_the_published_one() -> None:
    rows, queries = patches(300), patches(36, seed=1)
    _, score = MemoryBank(rows)(as_tokens(queries))
    assert score.shape == (1,)
    assert score.item() == pytest.approx(published_score(rows, queries), rel=1e-3)


def test_scores_of_far_patches_stay_in_order_and_finite() -> None:
    rows, queries = patches(300), patches(36, seed=1)
    bank = MemoryBank(rows)
    ratios = []
    for factor in (1, 10, 1e3, 1e5):
        distances, score = bank(as_tokens(queries * factor))
        ratios.append(float(score) / float(distances.max()))
    assert all(0.5 <= ratio < 1 for ratio in ratios)


def test_reweighting_by_hand() -> None:
    near, far = torch.tensor([2.0]), torch.tensor([1e6])
    assert float(reweight(near, near.repeat(2), 4)) == pytest.approx(1.0)
    assert float(reweight(near, near.repeat(1), 4)) == 0.0
    assert float(reweight(far, far.repeat(2), 4)) == pytest.approx(5e5)
    assert float(reweight(far, far.repeat(2) + 100, 4)) == pytest.approx(1e6)


@pytest.mark.parametrize(("n_rows", "n_others"), [(2, 1), (3, 2)])
def test_tiny_banks_answer(n_rows: int, n_others: int) -> None:
    bank = MemoryBank(patches(n_rows))
    assert bank.neighbours.shape == (n_rows, n_others)
    assert bool(torch.isfinite(bank(as_tokens(patches(36, seed=1)))[1]))


def test_neighbours_are_the_nearest_others() -> None:
    rows = patches(200)
    expected = torch.cdist(rows, rows).fill_diagonal_(torch.inf).topk(2, largest=False).indices
    assert torch.equal(MemoryBank(rows).neighbours, expected)


def test_nan_in_a_token_comes_out_as_nan() -> None:
    tokens = as_tokens(patches(36, seed=1))
    tokens[0, 5, 2, 3] = torch.nan
    distances, score = MemoryBank(patches(100))(tokens)
    assert torch.isnan(distances).sum() == 1
    assert bool(torch.isnan(score))


def test_banks_that_cannot_measure_are_refused() -> None:
    with pytest.raises(DataError, match="hardly differ"):
        MemoryBank(torch.full((50, 8), 3.0))
    with pytest.raises(DataError, match="not finite"):
        MemoryBank(patches(50) * torch.nan)
    for n_rows in (0, 1):
        with pytest.raises(DataError, match="two patches or more"):
            MemoryBank(patches(50)[:n_rows])
    with pytest.raises(DataError, match="97 dimensions of 96"):
        MemoryBank(patches(50), 97)
    with pytest.raises(DataError, match="1 to 32"):
        MemoryBank(patches(50), n_shortlist=33)


class BankDetector(KeepsFloat32, Detector):
    """A bank behind an encoder that is one convolution."""

    mix: Tensor
    float32_buffers = ("mix",)

    def __init__(self, bank: MemoryBank) -> None:
        super().__init__()
        self.bank = bank
        self.map = DistanceMap((SIZE, SIZE))
        mix = torch.randn(CHANNELS, 3, 8, 8, generator=torch.Generator().manual_seed(5))
        self.register_buffer("mix", mix / 100)

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        picture = rgb.float().permute(0, 3, 1, 2)
        tokens = torch.nn.functional.conv2d(picture, self.mix, stride=8)
        distances, score = self.bank(tokens)
        return self.map(distances), score


@pytest.mark.parametrize("n_dimensions", [None, 24])
@pytest.mark.parametrize("is_half", [False, True])
def test_onnx_runtime_says_the_same(
    is_half: bool, n_dimensions: int | None, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    detector = BankDetector(MemoryBank(patches(400), n_dimensions))
    rgb = rng.integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = detector(torch.from_numpy(rgb))
    file = tmp_path / "rgb.onnx"
    export_onnx(detector.half() if is_half else detector, {"rgb": rgb}, file)  # lints
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for one, other in zip(session.run(None, {"rgb": rgb}), expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-4)
    assert file.stat().st_size < _expected_bytes(detector) + 60_000  # each constant once
    products = _dtypes_of(file, "Gemm")
    assert products == {onnx.TensorProto.FLOAT16 if is_half else onnx.TensorProto.FLOAT}
    assert _dtypes_of(file, "Exp") | _dtypes_of(file, "Sqrt") == {onnx.TensorProto.FLOAT}


def _expected_bytes(detector: BankDetector) -> int:
    buffers = list(detector.buffers())
    return sum(b.numel() * b.element_size() for b in buffers)


def _dtypes_of(file: Path, op: str) -> set[int]:
    model = onnx.shape_inference.infer_shapes(onnx.load(file))
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    return {types[node.output[0]] for node in model.graph.node if node.op_type == op}


def test_the_blur_is_a_gaussian_of_four_pixels() -> None:
    spread = DistanceMap((101, 101))
    spot = torch.zeros(1, 1, 101, 101)
    spot[0, 0, 50, 50] = 1.0
    blurred = spread(spot)[0, 0].double()
    offsets_px = torch.arange(-50, 51, dtype=torch.float64)
    across_px = float((blurred.sum(0) * offsets_px.square()).sum().sqrt())
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-6)
    assert across_px == pytest.approx(4.0, rel=1e-2)
    constant = torch.full((1, 1, 28, 28), 7.0)
    torch.testing.assert_close(DistanceMap((224, 200))(constant), torch.full((1, 1, 224, 200), 7.0))
