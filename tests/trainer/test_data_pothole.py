"""A small tree laid out as the pothole tiles are, and the tiles themselves where they are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from loupe_edge.camera_settings import Stream
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.data.pothole import DEPTH_UNIT_M
from loupe_trainer.errors import DataError

SIDE_PX = 16
BOTH = Reading(streams=("rgb", "depth"))


@pytest.fixture
def road(tmp_path: Path) -> Path:
    root = tmp_path / "road"
    rows = []
    for i, kind in enumerate(["good", "good", "pothole", "good"]):
        name = f"d1_0{i // 2}_{i}"
        disparity = np.full((SIDE_PX, SIDE_PX), 55_000, np.uint16)
        disparity[0] = 0
        disparity[4:8, 4:8] -= 17_000 * (kind == "pothole")
        pictures: dict[str, tuple[str, Any]] = {
            "rgb/": (".jpg", np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8))
        }
        pictures["disp/"] = (".png", disparity)
        if kind == "pothole":
            pictures["mask/"] = (".png", np.where(disparity == 38_000, 255, 0).astype(np.uint8))
        for folder, (suffix, pixels) in pictures.items():
            (root / kind / folder).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / kind / folder / f"{name}{suffix}"), pixels)
        rows.append([name, "1", f"0{i // 2}", kind, str(16 * (kind == "pothole"))])
    with (root / "index.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["name", "dataset", "frame", "class", "mask_px"], *rows])
    return root


def test_tiles_of_one_picture_are_one_part(road: Path) -> None:
    data = open_data(road, Reading())
    assert [(i.key, i.part_id, i.kind) for i in data.items] == [
        ("good/rgb/d1_00_0.jpg", "road-1-00", "good"),
        ("good/rgb/d1_00_1.jpg", "road-1-00", "good"),
        ("pothole/rgb/d1_01_2.jpg", "road-1-01", "defect"),
        ("good/rgb/d1_01_3.jpg", "road-1-01", "good"),
    ]
    mask = data.mask(data.items[2])
    assert mask is not None
    assert mask.sum() == 16
    assert data.mask(data.items[0]) is None


@pytest.mark.parametrize("streams", [("rgb",), ("depth",), ("rgb", "depth")])
def test_frames_hold_the_streams_that_are_asked_for(
    road: Path, streams: tuple[Stream, ...]
) -> None:
    data = open_data(road, Reading(streams=streams))
    frames = [frame for _, frame in data.frames(data.items)]
    assert len(frames) == 4
    assert all((f.rgb is not None) == ("rgb" in streams) for f in frames)
    assert all((f.depth is not None) == ("depth" in streams) for f in frames)
    assert any(name.endswith(" depth") for name in data.files) == ("depth" in streams)


def test_disparity_becomes_depth_as_stated(road: Path) -> None:
    data = open_data(road, BOTH)
    depth = [frame.depth for _, frame in data.frames(data.items)][2]
    assert depth is not None
    depth_m = depth * DEPTH_UNIT_M
    assert not depth_m[0].any()
    np.testing.assert_allclose(depth_m[10, 10], 0.65 - 2e-6 * 55_000, atol=DEPTH_UNIT_M)
    np.testing.assert_allclose(depth_m[5, 5] - depth_m[10, 10], 0.034, atol=2 * DEPTH_UNIT_M)


def test_what_is_missing_or_of_another_size_is_refused(road: Path) -> None:
    file = road / "pothole" / "disp" / "d1_01_2.png"
    assert cv2.imwrite(str(file), np.ones((8, 12), np.uint16))
    data = open_data(road, BOTH)
    with pytest.raises(DataError, match=r"d1_01_2\.png: 12x8, its picture 16x16"):
        list(data.frames(data.items))
    assert cv2.imwrite(str(file), np.ones((16, 16), np.uint8))
    with pytest.raises(DataError, match="not a 16-bit picture"):
        list(data.frames(data.items))
    file.unlink()
    with pytest.raises(DataError, match="missing; copy the data again"):
        open_data(road, BOTH)
    assert len(open_data(road, Reading()).items) == 4
    (road / "index.csv").write_text("name,frame\nx,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="needs the columns name, dataset, frame, class"):
        open_data(road, Reading())


def test_the_real_tiles(real_data: Path) -> None:
    data = open_data(real_data / "pothole_rgbd_tiles", BOTH)
    assert len(data.items) == 132
    assert sum(i.kind == "defect" for i in data.items) == 27
    one = next(i for i in data.items if i.kind == "defect")
    mask = data.mask(one)
    _, frame = next(iter(data.frames([one])))
    assert frame.depth is not None
    assert mask is not None
    assert mask.shape == frame.depth.shape
    known = frame.depth > 0
    sunk = np.median(frame.depth[mask & known]) - np.median(frame.depth[~mask & known])
    assert 0.005 < sunk * DEPTH_UNIT_M < 0.1
