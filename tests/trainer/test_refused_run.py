"""What a run that is refused before it has learnt anything leaves: nothing."""

from pathlib import Path
from typing import Any

import pytest

from loupe_trainer.errors import DataError, RecipeError
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder
from loupe_trainer.train import train

QUIET = SilentProgress()


@pytest.mark.parametrize("key", ["fit.device", "fit.pretrain.device"])
def test_a_device_that_is_not_here_is_told_before_the_work(
    spots: Any, plain_folder: Path, recipe_file: Path, tmp_path: Path, key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings = {"method": "efficientad", key: "cuda"}
    with monkeypatch.context() as patched:
        patched.setattr("torch.cuda.is_available", lambda: False)
        patched.setattr("loupe_trainer.train.cache_tensors", None)  # it is not come to
        with pytest.raises(RecipeError, match=r'set device = "cpu"'):
            train(recipe_file, tmp_path / "run", QUIET, plain_folder, settings)
    assert not (tmp_path / "run").exists()
    train(recipe_file, tmp_path / "run", QUIET, plain_folder)
    assert spots.fits == 1


def test_a_refusal_with_nothing_but_empty_folders_gives_the_folder_up(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")

    @run.released_if_refused()
    def begin() -> None:
        run.claim({"name": "r"}, tmp_path / "r.toml", tmp_path, "0" * 64)
        (run.checkpoints / "features" / "rgb").mkdir(parents=True)
        raise DataError("no room")

    with pytest.raises(DataError, match="no room"):
        begin()
    run.claim({"name": "another"}, tmp_path / "r.toml", tmp_path, "0" * 64)
    assert run.read()["config"] == {"name": "another"}
