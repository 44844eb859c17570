"""Fusion of banks: the highest of them, and the published one-class SVM as the linear map it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import torch
from sklearn.linear_model import SGDOneClassSVM

from loupe_models.errors import ThresholdError
from loupe_trainer.errors import DataError
from loupe_trainer.export import export_onnx
from loupe_trainer.methods.base import Detector
from loupe_trainer.methods.cmdiad import fusion as fusion_module
from loupe_trainer.methods.cmdiad.bank import MemoryBank
from loupe_trainer.methods.cmdiad.fusion import LinearFusion, share_out
from loupe_trainer.methods.cmdiad.highest import Highest
from loupe_trainer.methods.cmdiad.judge import Judge, fit_fusion, fit_scales


def distances(n: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Of good parts to two banks whose scales differ."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.gamma(30, 0.5, n), rng.gamma(60, 0.002, n)], axis=1)


def fitted(vectors: npt.NDArray[Any]) -> tuple[LinearFusion, list[str]]:
    fusion = LinearFusion(vectors.shape[1])
    return fusion, fusion.fit(vectors, "score")


def test_scores_rank_as_scikit_learns_do() -> None:
    scores, others = distances(60), distances(200, seed=1)
    fusion, _ = fitted(scores)
    medians = np.median(scores, axis=0)
    svm = SGDOneClassSVM(nu=0.5, max_iter=1000, random_state=42).fit(scores / medians)
    theirs = svm.score_samples(others / medians)
    ours = np.array([fusion(torch.from_numpy(row)[None]).item() for row in others])
    np.testing.assert_allclose(ours / ours[0], theirs / theirs[0], rtol=1e-5)


def test_both_banks_are_heard_whatever_their_scales() -> None:
    fusion, notes = fitted(distances(60))
    in_medians = fusion.weights.numpy() * np.median(distances(60), axis=0)
    assert in_medians.sum() == pytest.approx(1.0, rel=1e-5)
    assert in_medians.min() > 0.3
    assert notes == []


def test_maps_are_added_place_by_place() -> None:
    fusion, _ = fitted(distances(1000))
    maps = torch.rand(1, 2, 5, 7)
    expected = torch.einsum("b,nbhw->nhw", fusion.weights, maps)[:, None]
    torch.testing.assert_close(fusion(maps), expected)


def test_one_bank_is_only_rescaled() -> None:
    scores = distances(60)[:, :1]
    fusion, _ = fitted(scores)
    assert fusion.weights.item() == pytest.approx(1 / np.median(scores))


def test_a_constant_bank_is_named() -> None:
    scores = distances(60)
    scores[:, 1] = 2.0
    fusion, notes = fitted(scores)
    assert notes == ["score: bank 1 answers the same for every good part"]
    assert bool(torch.isfinite(fusion.weights).all())


def test_weights_that_are_not_positive_are_left_out_and_said() -> None:
    kept, notes = share_out(np.array([0.6, -0.2, 0.2]))
    np.testing.assert_allclose(kept, [0.75, 0.0, 0.25])
    assert notes == ["bank 1 got weight -0.2, so it is left out"]
    kept, notes = share_out(np.array([-0.5, 0.0]))
    np.testing.assert_allclose(kept, [0.5, 0.5])
    assert notes == ["no bank got a positive weight, so all count alike"]


def test_many_pixels_are_drawn_from_and_give_all_but_the_same_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = distances(40_000)
    whole, _ = fitted(pixels)
    monkeypatch.setattr(fusion_module, "MAX_ROWS", 4000)
    drawn, _ = fitted(pixels)
    again, _ = fitted(pixels)
    assert torch.equal(drawn.weights, again.weights)
    torch.testing.assert_close(drawn.weights, whole.weights, rtol=0.05, atol=0.0)


def test_parts_that_lie_in_the_bank_are_refused() -> None:
    scores = distances(60)
    scores[:40, 1] = 0.0
    with pytest.raises(DataError, match=r"bank 1.*lie in the bank"):
        fitted(scores)


def test_vectors_that_are_no_distances_are_refused() -> None:
    for bad in (-1.0, np.nan):
        scores = distances(60)
        scores[3, 0] = bad
        with pytest.raises(DataError, match="negative or not finite"):
            fitted(scores)
    with pytest.raises(DataError, match="at least 2 of 2 banks"):
        fitted(distances(1))
    with pytest.raises(DataError, match="at least 2 of 2 banks"):
        LinearFusion(2).fit(distances(100)[:, :1], "map")


def test_weights_stay_float32_in_a_half_copy() -> None:
    fusion, _ = fitted(distances(60))
    weights = fusion.weights.clone()
    assert torch.equal(fusion.half().weights, weights)


def test_an_odd_fit_is_told(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    judge = Judge([MemoryBank(torch.randn(20, 4)) for _ in range(2)], size_px=8, paper=True)
    tokens = (torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2))
    fit_fusion(judge, [tokens] * 3)
    assert "score: bank 0 answers the same for every good part" in caplog.text


def test_where_the_score_is_the_maps_peak_none_is_fitted(caplog: pytest.LogCaptureFixture) -> None:
    """Frames whose scores are all alike say nothing against the map."""
    torch.manual_seed(0)
    judge = Judge([MemoryBank(torch.randn(20, 4))] * 2, size_px=8)
    tokens = (torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2))
    fit_fusion(judge, [tokens] * 3)
    fit_scales(judge, [tokens] * 3)
    assert caplog.text == ""
    assert not [name for name in judge.state_dict() if "score" in name or "published" in name]
    anomaly_map, score = judge(tokens)
    assert score.item() == anomaly_map.max().item()


def test_nothing_is_judged_at_the_border() -> None:
    torch.manual_seed(0)
    bank = MemoryBank(torch.randn(40, 8))
    tokens = torch.randn(1, 8, 12, 12)
    odd = tokens.clone()
    odd[..., 0] += 100
    inner, whole = Judge([bank], 48, border_px=8), Judge([bank], 48)
    assert torch.equal(inner.apart([odd])[0], inner.apart([tokens])[0])
    assert whole.apart([odd])[0].max() > 2 * whole.apart([tokens])[0].max()


def test_no_fit_looks_at_the_border() -> None:
    """A quarter of the side on each edge: most of the map is 0, and none of that is a distance."""
    torch.manual_seed(0)
    size_px, border_px = 160, 40
    judge = Judge([MemoryBank(torch.randn(60, 8)) for _ in range(2)], size_px, border_px)
    frames = [[torch.randn(1, 8, 20, 20) for _ in range(2)] for _ in range(3)]
    fit_fusion(judge, frames)
    fit_scales(judge, frames)
    inside = slice(border_px, size_px - border_px)
    maps = [judge(kinds)[0][..., inside, inside].numpy() for kinds in frames]
    assert np.quantile(np.stack(maps), (0.9, 0.995)) == pytest.approx([0, 0.1], abs=1e-5)
    apart = np.concatenate([judge.apart(kinds)[0][0, :, inside, inside] for kinds in frames], 1)
    for bank, said in enumerate(apart):
        fitted_to = judge.state_dict()
        ends = [fitted_to[f"fusion.scales.{bank}.{end}"].item() for end in ("low", "high")]
        assert ends == pytest.approx(np.quantile(said, (0.9, 0.995)), rel=1e-5)


class TwoBanks(Detector):
    """What two banks say is given; only the joining is left."""

    def __init__(self) -> None:
        super().__init__()
        self.highest = Highest(2)

    def forward(self, xyz: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        anomaly_map = self.highest(xyz.permute(0, 3, 1, 2)[:, :2])
        return anomaly_map, anomaly_map.amax(dim=(1, 2, 3))


def test_the_bank_to_which_a_place_is_oddest_speaks() -> None:
    """One bank's distances are a hundred times the other's, and each has its defect."""
    rng = np.random.default_rng(0)
    size = np.array((1.0, 100.0))[:, None, None]
    good = [torch.from_numpy(size * rng.uniform(0.5, 1, (2, 40, 40))) for _ in range(4)]
    highest = Highest(2)
    highest.fit_maps(good)
    maps = good[0].clone()
    maps[0, 5, 5], maps[1, 30, 30] = 2, 200
    fused = highest(maps[None])[0, 0].numpy()
    assert fused.shape == (40, 40)
    assert fused[5, 5] == pytest.approx(fused[30, 30], rel=0.05)
    ordinary = np.delete(fused.ravel(), (5 * 40 + 5, 30 * 40 + 30))
    assert fused[5, 5] > 5 * ordinary.max()


@pytest.mark.parametrize("bank", [0, 1])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_no_distance_is_no_answer_in_an_exported_graph(
    tmp_path: Path, bank: int, poison: float
) -> None:
    """A runtime's maximum of NaN and a number may be the number."""
    joined = TwoBanks()
    xyz = np.random.default_rng(0).random((1, 16, 16, 3)).astype(np.float32)
    joined.highest.fit_maps([torch.from_numpy(xyz[0].transpose(2, 0, 1)[:2])])
    file = tmp_path / "two_banks.onnx"
    export_onnx(joined, {"xyz": xyz}, file)
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    whole = joined(torch.from_numpy(xyz))[0].numpy()
    np.testing.assert_allclose(session.run(None, {"xyz": xyz})[0], whole, atol=1e-6)
    xyz[0, 4, 4, bank] = poison
    said = session.run(None, {"xyz": xyz})[0].ravel()
    assert not np.isfinite(said[4 * 16 + 4])
    assert np.isfinite(np.delete(said, 4 * 16 + 4)).all()


def test_a_bank_that_says_the_same_of_every_good_part_has_no_scale() -> None:
    with pytest.raises(ThresholdError, match=r"distance \(bank 1\) map .*hardly varies"):
        Highest(2).fit_maps([torch.stack((torch.rand(9, 9), torch.ones(9, 9)))])


def test_scales_stay_float32_in_a_half_copy() -> None:
    highest = Highest(1)
    highest.fit_maps([torch.from_numpy(np.random.default_rng(0).random((1, 9, 9)))])
    kept = {name: value.clone() for name, value in highest.state_dict().items()}
    assert all(torch.equal(kept[n], v) for n, v in highest.half().state_dict().items())
