"""`export --plan` at a trainer that has the station's GPU, on stand-ins for NVIDIA's libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typed_command import Typed

from loupe_models.bundle import load_bundle
from loupe_trainer.progress import SilentProgress
from loupe_trainer.train import train


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("spots")
def test_export_with_plans_fills_this_machines_cache(
    nvidia: Any,
    mvtec_folder: Path,
    recipe_file: Path,
    own_cache: Path,
    tmp_path: Path,
    typed: Typed,
) -> None:
    run = train(recipe_file, tmp_path / "run", SilentProgress(), mvtec_folder)
    assert nvidia.build.n_builds == 0
    status, told = typed("export", run.path, "--plan")
    assert status == 0, told
    assert f"rgb.fp16.onnx: built in 0 s; proved here, kept in {own_cache}" in told
    assert nvidia.build.n_builds == 1
    load_bundle(run.bundle)  # nothing in it that its manifest does not list


def test_export_with_plans_is_refused_at_once_without_tensorrt(
    typed: Typed, tmp_path: Path
) -> None:
    status, told = typed("export", tmp_path / "no run", "--plan")
    assert status == 2
    assert "TensorRT cannot be used here" in told
