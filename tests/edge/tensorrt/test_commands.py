"""What a person types at the station: build, check and bench."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loupe_models.bundle import Bundle

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service's own place, as systemd names it."""
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("nvidia")
def test_build_says_what_it_did(call: Call, typed_bundle: Bundle, own_cache: Path) -> None:
    told = call("build", str(typed_bundle.path))
    assert told.status == 0
    for mode in ("rgb", "depth", "rgbd"):
        assert f"{mode}.fp16.onnx: built in 0 s; proved here, kept in {own_cache}" in told.out
    again = call("build", str(typed_bundle.path), "--mode", "rgb")
    assert again.out.startswith("rgb.fp16.onnx: was there already")
    assert again.out.count("kept in") == 1


@pytest.fixture
def half_typed(typed_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle whose rgb has no typed graph, and whose trainer said why."""
    path = shutil.copytree(typed_bundle.path, tmp_path / "half")
    document = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    del document["modes"]["rgb"]["variants"]["fp16"]
    document["modes"]["rgb"]["refused"] = {"fp16": "3 verdicts differ"}
    del document["files"]["rgb.fp16.onnx"]
    (path / "rgb.fp16.onnx").unlink()
    (path / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.usefixtures("nvidia")
def test_build_builds_what_can_be_built(call: Call, half_typed: Path) -> None:
    told = call("build", half_typed)
    assert told.status == 0, told.err
    *built, last = told.out.splitlines()
    assert last == "rgb: left out, no fp16 graph: 3 verdicts differ"
    assert [line.split(":")[0] for line in built] == ["depth.fp16.onnx", "rgbd.fp16.onnx"]
    alone = call("build", half_typed, "--mode", "rgb")
    assert alone.status == 2
    assert "3 verdicts differ" in alone.err


@pytest.mark.usefixtures("nvidia")
def test_plans_are_not_kept_in_a_bundle(call: Call, typed_bundle: Bundle) -> None:
    told = call("build", typed_bundle.path, "--cache", typed_bundle.path)
    assert told.status == 2
    assert f"lies in the bundle {typed_bundle.path}" in told.err
    assert not (typed_bundle.path / "plans").exists()


def test_build_without_tensorrt_is_bad_input(call: Call, typed_bundle: Bundle) -> None:
    told = call("build", str(typed_bundle.path))
    assert told.status == 2
    assert "loupe-edge doctor" in told.err
    assert "engine" not in told.err.replace("TensorRT", "")  # it has no such option


@pytest.mark.usefixtures("nvidia")
def test_check_proves_a_station_on_tensorrt(check: Call, tmp_path: Path) -> None:
    told = check("cpu")
    assert told.status == 0, told.err
    assert "rgb fp16, tensorrt" in told.out
    assert "2 golden frames agree" in " ".join(told.out.split())
    assert len(list((tmp_path / "plans" / "plans").iterdir())) == 1


@pytest.mark.usefixtures("nvidia")
def test_bench_times_tensorrt(call: Call, typed_bundle: Bundle) -> None:
    words = ("--mode", "rgb", "--engine", "tensorrt", "--frames", "4", "--warm-up", "1", "--json")
    told = call("bench", str(typed_bundle.path), *words)
    assert told.status == 0, told.err
    document = json.loads(told.out)
    assert "| tensorrt fp16 |" in document["row"]
    assert document["n_inspected"] == 4


def test_bench_takes_the_folder_of_plans_and_the_front(
    nvidia_kernels: Any, call: Call, typed_bundle: Bundle, tmp_path: Path, own_cache: Path
) -> None:
    words = ("--mode", "rgb", "--engine", "tensorrt", "--frames", "2", "--warm-up", "0", "--json")
    kept = tmp_path / "kept"
    told = call("bench", typed_bundle.path, *words, "--cache", kept, "--front", "gpu")
    if "libnvrtc is not here" in told.err:
        pytest.skip(f"A BENCH WITH THE GPU FRONT IS NOT TESTED HERE: {told.err}")
    assert told.status == 0, told.err
    assert "| tensorrt fp16, GPU front |" in json.loads(told.out)["row"]
    assert "grow" in nvidia_kernels.gpu.asked
    assert len(list((kept / "plans").iterdir())) == 1
    assert not own_cache.exists()
