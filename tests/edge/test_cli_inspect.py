"""`loupe-edge inspect` as a person meets it: what it refuses, and what it proves first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from full_disk import full_disk

from loupe_models.bundle import Bundle
from loupe_models.frame import Frame

MakeFrame = Callable[..., Frame]
Call = Callable[..., Any]


@pytest.fixture
def picture(tmp_path: Path, make_frame: MakeFrame) -> Path:
    path = tmp_path / "part.png"
    cv2.imwrite(str(path), np.asarray(make_frame("good", 1).rgb)[..., ::-1])
    return path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--out {file}", "a file stands where a folder must be"),
        ("--out {file}/out", "a file stands where a folder must be"),
        ("--out {long}", "the name is too long"),
        ("--out {out} --threshold nan", "threshold nan: give a finite number"),
        ("--out {out} --threshold inf", "threshold inf: give a finite number"),
        ("--out {out} --threads 257", "--threads"),
    ],
)
def test_inspect_says_what_is_wrong_with_its_options(
    call: Call, tiny_bundle: Bundle, picture: Path, tmp_path: Path, words: str, says: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    places = {"file": tmp_path / "file", "out": tmp_path / "out", "long": tmp_path / ("x" * 300)}
    told = call("inspect", tiny_bundle.path, picture, *words.format(**places).split())
    assert told.status == 2
    assert says in told.err
    assert "Errno" not in told.err
    assert not (tmp_path / "out").exists()


def test_inspect_says_what_serves_instead_where_a_bundle_has_no_rgb(
    call: Call, tiny_bundle: Bundle, picture: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_bundle.path, tmp_path / "deep")
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["modes"]["rgb"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    told = call("inspect", bundle, picture, "--out", tmp_path / "out")
    assert told.status == 2
    assert "serves depth and rgbd, not rgb" in told.err
    assert "loupe-edge replay --bundle" in told.err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_a_fault_that_names_the_file(
    call: Call, tiny_bundle: Bundle, picture: Path, tmp_path: Path
) -> None:
    with full_disk(1000):
        told = call("inspect", tiny_bundle.path, picture, "--out", tmp_path / "out")
    assert told.status == 1
    assert "out/overlays/part.png: the disk is full" in told.err


def test_inspect_proves_the_bundle_before_it_speaks(
    call: Call, tiny_bundle: Bundle, picture: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_bundle.path, tmp_path / "altered")
    document = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    document["modes"]["rgb"]["golden"][0]["image_score"] += 1.0
    (bundle / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    told = call("inspect", bundle, picture, "--out", tmp_path / "out")
    assert told.status == 1
    assert "golden frame 0: this device says" in told.err
    assert not (tmp_path / "out").exists()
