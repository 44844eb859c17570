"""The hallucination networks and the loop that teaches them."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from loupe_trainer.encoders.vit import Vit
from loupe_trainer.encoders.vit_spec import VitSpec
from loupe_trainer.errors import RunError, TrainingError
from loupe_trainer.methods.cmdiad.config import DistillationConfig
from loupe_trainer.methods.cmdiad.distillation import (
    Lesson,
    distil,
    distillation_loss,
    draw,
    to_grid,
    warmed_up,
)
from loupe_trainer.methods.cmdiad.hallucination import (
    FeatureToFeature,
    FeatureToInput,
    FromFeatures,
    InputToFeature,
    ThroughColour,
)
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder

QUIET = SilentProgress()
RGB_CHANNELS, DEPTH_CHANNELS, SIDE_PX = 6, 5, 32


def n_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "n_millions"),
    [
        (FeatureToFeature(768, 768), 6.64),  # methods.md: 6.64M a direction
        (FeatureToInput(768, 224), 3.01),  # 3.0M
        # stem 75,840 + first bottleneck 297,472 + 11 others of 280,064 + last 393,984, by hand
        (InputToFeature(768), 3.848),
    ],
)
def test_the_networks_are_as_large_as_published(network: nn.Module, n_millions: float) -> None:
    assert n_parameters(network) / 1e6 == pytest.approx(n_millions, abs=0.01)


def test_f2f_is_the_perceptron_of_the_paper_token_by_token() -> None:
    torch.manual_seed(0)
    network = FeatureToFeature(8, 6)
    tokens = torch.randn(2, 8, 3, 5)
    told = network(tokens)
    assert told.shape == (2, 6, 3, 5)
    by_hand = nn.Sequential(
        network.norm, network.first, nn.GELU(), network.second, nn.GELU(), network.last
    )
    one = by_hand(tokens[1, :, 2, 4])
    torch.testing.assert_close(told[1, :, 2, 4], one)
    network.gelu_output = True
    torch.testing.assert_close(network(tokens)[1, :, 2, 4], nn.GELU()(one))


def test_as_published_f2f_cannot_say_less_than_gelu_does() -> None:
    torch.manual_seed(0)
    tokens = 10 * torch.randn(1, 16, 8, 8)
    linear = FeatureToFeature(16, 16)
    published = FeatureToFeature(16, 16, gelu_output=True)
    published.load_state_dict({k: 20 * v for k, v in linear.state_dict().items()})
    linear.load_state_dict(published.state_dict())
    assert linear(tokens).min() < -1
    assert published(tokens).min() >= -0.1701


def test_f2i_and_i2f_give_the_sizes_of_the_paper() -> None:
    with torch.no_grad():
        assert FeatureToInput(12, 64)(torch.randn(1, 12, 16, 16)).shape == (1, 3, 64, 64)
        assert InputToFeature(12).eval()(torch.randn(1, 3, 64, 64)).shape == (1, 12, 16, 16)


def test_the_encoder_behind_f2i_sees_colours_in_0_to_255() -> None:
    seen: list[Tensor] = []
    spec = VitSpec(channels=8, depth=1, n_heads=2, hidden=8, patch_px=8, input_hw_px=(16, 16))
    encoder = Vit(spec)
    encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network = FeatureToInput(4, 16)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    ThroughColour(network, encoder)(torch.zeros(1, 4, 4, 4), torch.zeros(1, 3, 16, 16))
    mean = 255 * torch.tensor([0.485, 0.456, 0.406])  # what normalised zeros stand for
    torch.testing.assert_close(seen[0], mean.view(1, 3, 1, 1).expand(1, 3, 16, 16))


def test_the_loss_sums_norms_over_places_and_averages_frames() -> None:
    said = torch.zeros(2, 2, 2, 2)
    real = torch.zeros(2, 2, 2, 2)
    real[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    real[1, :, 1, 1] = torch.tensor([6.0, 8.0])
    assert distillation_loss(said, real).item() == pytest.approx((5 + 10) / 2)


def test_the_coarser_side_is_repeated_to_the_finer() -> None:
    coarse = torch.arange(4.0).view(1, 1, 2, 2)
    fine = to_grid(coarse, (4, 4))
    assert torch.equal(fine, coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert distillation_loss(coarse, fine).item() == 0
    assert distillation_loss(coarse + 1, fine).item() == 16


def test_an_epoch_passes_every_frame_once_in_an_order_of_its_own() -> None:
    epochs = [np.concatenate([draw(3 * e + i, 7, 3, seed=1) for i in range(3)]) for e in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 2
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0][:3], draw(0, 7, 3, seed=2))


def test_the_rate_warms_up_over_a_tenth_and_stays() -> None:
    rates = [warmed_up(0.1, step, 20) for step in range(20)]
    assert rates == pytest.approx([0.05] + [0.1] * 19)


class RandomPairs:
    """Depth tokens that follow from colour tokens, on twice the grid."""

    def __init__(self, n: int = 5) -> None:
        rng = torch.Generator().manual_seed(3)
        self.rgb = torch.randn(n, RGB_CHANNELS, 4, 4, generator=rng)
        mixing = torch.randn(DEPTH_CHANNELS, RGB_CHANNELS, generator=rng)
        self.depth = to_grid(torch.einsum("oc,bchw->bohw", mixing, self.rgb), (8, 8))

    def __len__(self) -> int:
        return len(self.rgb)

    def batch(self, rows: npt.NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        return self.rgb[rows], self.depth[rows]


def a_lesson(epochs: int, first_step: int = 0) -> Lesson:
    config = DistillationConfig(epochs=epochs, batch=2, log_every=1, checkpoint_every=4)
    return Lesson("depth_from_rgb", 5e-3, config, 3, torch.device("cpu"), {"seed": 3}, first_step)


def a_network() -> FeatureToFeature:
    torch.manual_seed(1)
    return FeatureToFeature(RGB_CHANNELS, DEPTH_CHANNELS)


def losses(run: RunFolder) -> list[tuple[int, float]]:
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [(event["step"], event["depth_from_rgb"]) for event in events]


def test_a_network_learns_what_follows_from_the_other_modality(tmp_path: Path) -> None:
    network, run = a_network(), RunFolder(tmp_path)
    distil(network, RandomPairs(), a_lesson(epochs=60), run, QUIET)
    told = losses(run)
    assert len(told) == 180
    assert told[-1][1] < 0.3 * told[0][1]
    assert not network.training


class KilledError(Exception):
    pass


def test_a_killed_lesson_goes_on_to_the_same_losses_and_weights(tmp_path: Path) -> None:
    class Mortal(RandomPairs):
        calls = 0

        def batch(self, rows: npt.NDArray[np.intp]) -> tuple[Tensor, Tensor]:
            Mortal.calls += 1
            if Mortal.calls == 11:
                raise KilledError
            return super().batch(rows)

    lesson = a_lesson(epochs=6, first_step=100)
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    one = a_network()
    distil(one, RandomPairs(), lesson, whole, QUIET)
    with pytest.raises(KilledError):
        distil(a_network(), Mortal(), lesson, killed, QUIET)
    other = a_network()
    distil(other, RandomPairs(), lesson, killed, QUIET)
    assert losses(killed) == losses(whole)
    assert [step for step, _ in losses(whole)] == list(range(101, 119))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_finished_lesson_is_read_back_and_another_refused(tmp_path: Path) -> None:
    run, lesson = RunFolder(tmp_path), a_lesson(epochs=2)
    one, other = a_network(), a_network()
    distil(one, RandomPairs(), lesson, run, QUIET)
    before = losses(run)
    distil(other, RandomPairs(), lesson, run, QUIET)
    assert losses(run) == before
    assert torch.equal(one.last.weight, other.last.weight)
    with pytest.raises(RunError, match="other settings"):
        distil(a_network(), RandomPairs(), replace(lesson, settings={"seed": 4}), run, QUIET)


def test_a_loss_that_is_not_finite_stops_at_once(tmp_path: Path) -> None:
    pairs = RandomPairs()
    pairs.depth[:] = float("nan")
    with pytest.raises(TrainingError, match=r"depth_from_rgb is not finite at step 1"):
        distil(a_network(), pairs, a_lesson(epochs=1), RunFolder(tmp_path), QUIET)


def test_f2f_wrapped_gives_what_its_network_gives() -> None:
    network = a_network()
    tokens = torch.randn(1, RGB_CHANNELS, 4, 4)
    assert torch.equal(FromFeatures(network)(tokens, torch.zeros(1, 3, 8, 8)), network(tokens))


def test_i2f_in_evaluation_folds_its_first_batch_norm() -> None:
    torch.manual_seed(0)
    network = InputToFeature(4)
    picture = torch.randn(2, 3, 16, 16)
    network(picture)  # moves the running statistics
    first = network.eval().first
    torch.testing.assert_close(first(picture), first.norm(first.conv(picture)))


class CloudPairs:
    """Clouds in metres, which vary by far less than the 1 that batch norms begin with."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(2)
        self.clouds = 0.3 + 0.01 * torch.randn(6, 3, 16, 16, generator=rng)

    def __len__(self) -> int:
        return len(self.clouds)

    def batch(self, rows: npt.NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        return self.clouds[rows], torch.zeros(len(rows), 4, 4, 4)


def test_after_a_short_lesson_batch_norms_know_what_they_see(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network, pairs = InputToFeature(4), CloudPairs()
    distil(network, pairs, a_lesson(epochs=1), RunFolder(tmp_path), QUIET)
    normed = network.first(pairs.clouds)
    torch.testing.assert_close(normed.mean((0, 2, 3)), torch.zeros(64), atol=0.2, rtol=0)
    assert 0.5 < normed.std((0, 2, 3)).median() < 1.5


def test_what_sees_metres_in_i2f_stays_as_it_is_in_a_half_precision_copy() -> None:
    torch.manual_seed(1)
    network, clouds = InputToFeature(4), 0.3 + 0.001 * torch.randn(6, 3, 16, 16)
    network(clouds)
    half = copy.deepcopy(network.eval()).half()
    assert torch.equal(half.first(clouds), network.first(clouds))
    assert half(clouds).isfinite().all()
