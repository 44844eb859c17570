"""An interrupted pretraining goes on as if it had never stopped, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers

from loupe_trainer.errors import RunError, WeightsError
from loupe_trainer.progress import Progress, SilentProgress, Task
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.pretrain import pretrain
from loupe_trainer.teachers.weights import Teacher

TINY = {
    "width": 0.07, "steps": 6, "batch": 2, "n_pictures": 4, "input_px": 64, "checkpoint_every": 2,
}  # fmt: skip


class Killed(BaseException):
    pass


class KilledAt(Progress):
    """Dies after a step of the task that trains; counts the steps it was shown."""

    def __init__(self, step: int | None) -> None:
        self.step = step
        self.n_seen = 0

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        with SilentProgress().task(name, total, done) as silent:
            yield silent if name.startswith("measuring") else _Deadly(self, done)


class _Deadly:
    def __init__(self, outer: KilledAt, done: int) -> None:
        self._outer, self._done = outer, done

    def advance(self, n: int = 1, note: str = "") -> None:  # noqa: ARG002
        self._done += n
        self._outer.n_seen += n
        if self._done == self._outer.step:
            raise Killed


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a tiny network at random."""
    folder = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 24, 32], depths=[1, 1, 1]
    )
    transformers.ResNetModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}'
    )
    return folder


@pytest.fixture(params=["distilled", "self-supervised"])
def config(request: pytest.FixtureRequest, backbone: Path) -> PretrainConfig:
    given: dict[str, object] = {"backbone": "hugging_face", "backbone_weights": backbone}
    more = given | {"licence": "MIT"} if request.param == "distilled" else {}
    return PretrainConfig.model_validate(TINY | {"lr": 1e-3} | more)


def assert_same_weights(one: Teacher, other: Teacher) -> None:
    for key, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[key]), key


@pytest.mark.parametrize(("killed_at", "n_left"), [(1, 6), (2, 4), (5, 2)])
def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, config: PretrainConfig, killed_at: int, n_left: int
) -> None:
    whole = pretrain(config, tmp_path / "whole", SilentProgress())
    with pytest.raises(Killed):
        pretrain(config, tmp_path / "broken", KilledAt(killed_at))
    assert not (tmp_path / "broken").exists()
    watched = KilledAt(None)
    resumed = pretrain(config, tmp_path / "broken", watched)
    assert watched.n_seen == n_left
    assert_same_weights(whole, resumed)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "whole"]


def test_a_training_with_other_settings_does_not_go_on(
    tmp_path: Path, config: PretrainConfig
) -> None:
    with pytest.raises(Killed):
        pretrain(config, tmp_path / "teacher", KilledAt(3))
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(RunError, match="other settings; delete it"):
        pretrain(other, tmp_path / "teacher", SilentProgress())
    more_often = config.model_copy(update={"checkpoint_every": 1})
    pretrain(more_often, tmp_path / "teacher", SilentProgress())


def test_a_distillation_does_not_go_on_from_another_backbone(
    tmp_path: Path, backbone: Path
) -> None:
    config = PretrainConfig.model_validate(
        TINY | {"backbone": "hugging_face", "backbone_weights": backbone, "licence": "MIT"}
    )
    with pytest.raises(Killed):
        pretrain(config, tmp_path / "teacher", KilledAt(3))
    kept = (backbone / "model.safetensors").read_bytes()
    network = transformers.AutoModel.from_pretrained(backbone)
    with torch.no_grad():
        next(network.parameters()).add_(1)
    network.save_pretrained(backbone)
    with pytest.raises(RunError, match="other settings"):
        pretrain(config, tmp_path / "teacher", SilentProgress())
    (backbone / "model.safetensors").write_bytes(kept)
    pretrain(config, tmp_path / "teacher", SilentProgress())


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, config: PretrainConfig) -> None:
    with pytest.raises(Killed):
        pretrain(config, tmp_path / "teacher", KilledAt(3))
    checkpoint = tmp_path / "teacher.checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    with pytest.raises(RunError, match="not a whole checkpoint"):
        pretrain(config, tmp_path / "teacher", SilentProgress())


def test_a_finished_teacher_is_kept_and_no_other_is_put_in_its_place(
    tmp_path: Path, config: PretrainConfig
) -> None:
    file, watched = tmp_path / "teacher", KilledAt(1)
    made = pretrain(config, file, SilentProgress())
    content = file.read_bytes()
    elsewhere = config.model_copy(update={"checkpoint_every": 1})
    assert_same_weights(pretrain(elsewhere, file, watched), made)
    with pytest.raises(WeightsError, match="teacher of other settings; give --out another place"):
        pretrain(config.model_copy(update={"batch": config.batch + 2}), file, watched)
    assert watched.n_seen == 0
    assert file.read_bytes() == content


def test_what_is_no_teacher_is_never_replaced(tmp_path: Path, config: PretrainConfig) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("name = 'mine'")
    with pytest.raises(WeightsError, match="is not a whole teacher; give --out another place"):
        pretrain(config, file, SilentProgress())
    assert file.read_text() == "name = 'mine'"
