"""The loop: resumable to the bit, deterministic, and each of its pieces."""

import json
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from loupe_models.errors import ThresholdError
from loupe_models.preprocess import Tensors
from loupe_trainer.errors import RecipeError, RunError, TrainingError
from loupe_trainer.methods import get_method
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.detector import EfficientAdDetector
from loupe_trainer.methods.efficientad.frozen import channel_statistics, freeze
from loupe_trainer.methods.efficientad.pictures import (
    StepPictures,
    StepSource,
    recolour,
    stack_samples,
)
from loupe_trainer.methods.efficientad.training import Networks, step_losses
from loupe_trainer.progress import Progress, SilentProgress, Task
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.corpus import TextureCorpus
from loupe_trainer.teachers.pdn import Pdn, PdnShape, student_network, teacher_network
from loupe_trainer.teachers.weights import load_teacher

TINY = PdnShape("S", 0.07)
SIZE_HW = (128, 160)


def make_samples(n: int, seed: int) -> list[Tensors]:
    rng = np.random.default_rng(seed)
    return [{"rgb": TextureCorpus().picture(rng, *SIZE_HW)[None]} for _ in range(n)]


def settings(**more: object) -> dict[str, object]:
    return {
        "width_px": SIZE_HW[1], "height_px": SIZE_HW[0], "steps": 6, "lr": 1e-3, "log_every": 1,
        "checkpoint_every": 2, "n_penalty_pictures": 4,
        "pretrain": {"width": TINY.width, "steps": 3, "batch": 8, "n_pictures": 4},
    } | more  # fmt: skip


def read_losses(run: RunFolder) -> dict[int, dict[str, float]]:
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line for line in map(json.loads, lines)}


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test may catch it."""


class KilledAt(Progress):
    """Kills the run in the middle of a task."""

    def __init__(self, name: str, step: int) -> None:
        self.name, self.step = name, step

    def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Task]:
        if name != self.name:
            return SilentProgress().task(name, total, done)
        outer = self

        class Deadly:
            n = done

            def __enter__(self) -> Task:
                return self

            def __exit__(self, *_: object) -> None:
                return None

            def advance(self, n: int = 1, note: str = "") -> None:  # noqa: ARG002
                self.n += n
                if self.n == outer.step:
                    raise Killed

        return Deadly()


def fit(run: RunFolder, progress: Progress, **more: object) -> EfficientAdDetector:
    method = get_method("efficientad", settings(**more), 5, Path(), ("rgb",))
    detector = method.fit(make_samples(5, 0), make_samples(2, 9), run, progress)["rgb"]
    assert isinstance(detector, EfficientAdDetector)
    return detector


@pytest.mark.parametrize("killed_at", [1, 3, 4])
def test_a_killed_run_goes_on_to_the_same_losses_and_weights(
    tmp_path: Path, killed_at: int
) -> None:
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    expected = fit(whole, SilentProgress())
    with pytest.raises(Killed):
        fit(broken, KilledAt("learning good parts", killed_at))
    resumed = fit(broken, SilentProgress())
    assert read_losses(broken) == read_losses(whole)
    assert sorted(read_losses(whole)) == [1, 2, 3, 4, 5, 6]
    for key, value in expected.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_a_finished_run_comes_back_without_another_step(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    first = fit(run, SilentProgress())
    n_lines = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    again = fit(run, SilentProgress())
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == n_lines
    rgb = torch.from_numpy(np.asarray(make_samples(1, 1)[0]["rgb"]))
    with torch.no_grad():
        assert torch.equal(first(rgb)[0], again(rgb)[0])


def test_what_was_logged_after_the_checkpoint_is_taken_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.rewind(0)  # nothing yet
    for step in (1, 2, 3):
        run.log({"step": step, "total": 0.1 * step})
    before = (tmp_path / "metrics.jsonl").read_text()
    run.rewind(3)
    assert (tmp_path / "metrics.jsonl").read_text() == before
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "to')  # the power went
    run.rewind(2)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(before.splitlines(True)[:2])


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    fit(RunFolder(tmp_path), SilentProgress())
    with pytest.raises(RunError, match="other settings"):
        fit(RunFolder(tmp_path), SilentProgress(), lr=2e-3)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    fit(run, SilentProgress(), steps=60, batch=2)
    losses = read_losses(run)
    for name in ("hard", "total"):
        first = np.mean([losses[step][name] for step in range(1, 6)])
        last = np.mean([losses[step][name] for step in range(56, 61)])
        assert last < 0.9 * first, name


@pytest.mark.parametrize(("size", "size_hw"), [("M", (128, 128)), ("S", (160, 224))])
def test_both_networks_learn_at_any_size(
    tmp_path: Path, size: str, size_hw: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    samples = [{"rgb": TextureCorpus().picture(rng, *size_hw)[None]} for _ in range(4)]
    pretrain = {"size": size, "width": 0.07, "steps": 2, "batch": 8, "n_pictures": 4}
    more = {"height_px": size_hw[0], "width_px": size_hw[1], "batch": 2, "pretrain": pretrain}
    run = RunFolder(tmp_path)
    method = get_method("efficientad", settings(**more), 0, Path(), ("rgb",))
    detector = method.fit(samples[:3], samples[3:], run, SilentProgress())["rgb"]
    method.normalise({"rgb": detector}, samples[3:])
    with torch.no_grad():
        anomaly_map, _ = detector(torch.from_numpy(samples[3]["rgb"]))
    assert anomaly_map.shape == (1, 1, *size_hw)
    assert sorted(read_losses(run)) == [1, 2, 3, 4, 5, 6]


def test_another_seed_gives_other_losses_and_the_same_one_the_same(tmp_path: Path) -> None:
    logs = []
    for i, seed in enumerate((5, 5, 6)):
        run = RunFolder(tmp_path / str(i))
        method = get_method("efficientad", settings(), seed, Path(), ("rgb",))
        method.fit(make_samples(5, 0), [], run, SilentProgress())["rgb"]
        logs.append((run.path / "metrics.jsonl").read_text())
    assert logs[0] == logs[1] != logs[2]


def test_defects_stand_out_after_training(tmp_path: Path) -> None:
    """Parts of one kind: a blot in one place must light up there and nowhere else."""
    rng = np.random.default_rng(0)
    part = TextureCorpus().picture(rng, *SIZE_HW).astype(np.int16)
    noisy = [np.clip(part + rng.normal(0, 3, part.shape), 0, 255) for _ in range(12)]
    samples = [{"rgb": picture.astype(np.uint8)[None]} for picture in noisy]
    method = get_method("efficientad", settings(steps=150), 0, Path(), ("rgb",))
    detector = method.fit(samples[:8], samples[8:11], RunFolder(tmp_path), SilentProgress())["rgb"]
    method.normalise({"rgb": detector}, samples[8:11])
    good = np.asarray(samples[11]["rgb"]).copy()
    bad = good.copy()
    bad[:, 60:72, 80:92] = (255, 0, 255)
    with torch.no_grad():
        good_map, good_score = detector(torch.from_numpy(good))
        bad_map, bad_score = detector(torch.from_numpy(bad))
    assert float(bad_score) > 3 * max(float(good_score), 0.1)
    y, x = np.unravel_index(int((bad_map - good_map).argmax()), SIZE_HW)
    assert 44 <= y < 88
    assert 64 <= x < 108


def make_networks() -> Networks:
    torch.manual_seed(0)
    return Networks(teacher_network(TINY), student_network(TINY), Autoencoder(TINY, SIZE_HW))


def test_the_autoencoders_gradient_comes_from_both_of_its_losses() -> None:
    networks = make_networks()
    pictures = stack_samples(make_samples(2, 0))
    frozen = freeze(networks.teacher, pictures, pictures, shared_stem=False, cache_mb=10)
    losses = step_losses(networks, StepSource(pictures, 2, 1, 0).draw(0), frozen)
    weight = networks.autoencoder.head[-1].weight
    assert isinstance(weight, torch.Tensor)
    (gradient,) = torch.autograd.grad(losses.student_autoencoder, weight, retain_graph=True)
    assert float(gradient.abs().sum()) > 0
    (gradient,) = torch.autograd.grad(losses.hard, weight, allow_unused=True, retain_graph=True)
    assert gradient is None


def test_a_batchs_losses_are_the_mean_of_its_pictures() -> None:
    """Quantile and all: a larger batch changes the noise of the gradient, not its expectation."""
    networks = make_networks()
    networks.autoencoder.eval()  # dropout differs from call to call
    pictures = stack_samples(make_samples(3, 0))
    frozen = freeze(networks.teacher, pictures, pictures, shared_stem=False, cache_mb=30)
    batch = StepSource(pictures, 3, 2, 0).draw(0)
    assert batch.foreign_rows is not None
    singles = [
        step_losses(
            networks,
            StepPictures(batch.rows[i], batch.foreign_rows[i], batch.recoloured[i]),
            frozen,
        ).floats()
        for i in (slice(0, 1), slice(1, 2))
    ]
    for name, value in step_losses(networks, batch, frozen).floats().items():
        mean = (singles[0][name] + singles[1][name]) / 2
        assert value == pytest.approx(mean, rel=5e-3), name  # bfloat16 where there is some


def test_cached_answers_equal_fresh_ones() -> None:
    teacher, pictures = teacher_network(TINY), stack_samples(make_samples(3, 0))
    roomy = freeze(teacher, pictures, None, shared_stem=False, cache_mb=300).teacher
    cramped = freeze(teacher, pictures, None, shared_stem=False, cache_mb=0).teacher
    rows = np.array([2, 0])
    first = roomy.of(rows)
    assert torch.equal(first, roomy.of(rows))
    assert torch.equal(first, cramped.of(rows))


def test_a_shared_stem_stays_the_teachers_and_is_computed_once(tmp_path: Path) -> None:
    detector = fit(RunFolder(tmp_path), SilentProgress(), shared_stem=True)
    taught = load_teacher(tmp_path / "checkpoints" / "teacher.safetensors").network
    assert detector.student.stem is detector.teacher.stem
    for key, value in taught.stem.state_dict().items():
        assert torch.equal(value, detector.student.stem.state_dict()[key]), key
    calls: list[int] = []
    detector.teacher.stem.register_forward_hook(lambda *_: calls.append(1))
    rgb = torch.from_numpy(np.asarray(make_samples(1, 3)[0]["rgb"], np.uint8))
    detector(rgb)
    assert calls == [1]


def test_shared_or_not_the_losses_are_the_same_function() -> None:
    networks = make_networks()
    networks.student.stem.load_state_dict(networks.teacher.stem.state_dict())
    shared = Networks(networks.teacher, student_network(TINY), networks.autoencoder)
    shared.student.load_state_dict(networks.student.state_dict())
    shared.student.stem = networks.teacher.stem
    networks.autoencoder.eval()
    pictures = stack_samples(make_samples(2, 0))
    drawn = StepSource(pictures, 2, 2, 0).draw(0)
    losses = [
        step_losses(
            n, drawn,
            freeze(n.teacher, pictures, pictures, shared_stem=n.have_shared_stem, cache_mb=30),
        ).floats()
        for n in (networks, shared)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_every_picture_is_seen_once_an_epoch_in_a_new_order() -> None:
    pictures = stack_samples(make_samples(5, 0))
    source = StepSource(pictures, 0, 1, 0)
    epochs = [[int(source.draw(5 * e + i).rows[0]) for i in range(5)] for e in range(3)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_recolouring_stays_within_a_fifth() -> None:
    rng = np.random.default_rng(0)
    grey = torch.full((3, 8, 8), 100.0)
    values = {round(float(recolour(grey, rng).mean()), 3) for _ in range(60)}
    assert min(values) >= 80
    assert max(values) <= 120
    assert len(values) > 10


def test_blank_pictures_cannot_teach() -> None:
    blank = np.zeros((2, 128, 128, 3), np.uint8)
    with pytest.raises(TrainingError, match="the same of every pixel"):
        channel_statistics(teacher_network(TINY), blank, SilentProgress())


class _Constant(Pdn):
    """Answers the same everywhere, as a student does whose training collapsed."""

    def _say(self, hidden: torch.Tensor, channels: slice) -> torch.Tensor:
        return torch.ones_like(super()._say(hidden, channels))


def test_a_map_without_a_scale_is_refused_with_what_to_collect() -> None:
    n = TINY.feature_channels
    detector = EfficientAdDetector(
        _Constant(TINY, n), _Constant(TINY, 2 * n), Autoencoder(TINY, SIZE_HW).eval()
    )
    method = get_method("efficientad", settings(), 0, Path(), ("rgb",))
    with pytest.raises(ThresholdError, match="at least 10 different good parts"):
        method.normalise({"rgb": detector}, make_samples(2, 0))
    with pytest.raises(ThresholdError, match="held out"):
        method.normalise({"rgb": detector}, [])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"stepz": 3}, "fit.stepz: unknown key"),
        ({"steps": 0}, "fit.steps"),
        ({"steps": True}, "fit.steps: Input should be a valid integer"),
        ({"pretrain": {"steps": True}}, "fit.pretrain.steps: Input should be a valid integer"),
        ({"width_px": 100}, "multiple of 32"),
        ({"pretrain": {"widht": 1}}, "fit.pretrain.widht: unknown key"),
    ],
)
def test_settings_that_make_no_sense_are_named(more: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        get_method("efficientad", settings(**more), 0, Path(), ("rgb",))


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(RecipeError, match="efficientad"):
        get_method("efficientnet", {}, 0, Path(), ("rgb",))
