"""Plain pictures through the inspector: a verdict, an overlay and a row each."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from loupe_calibration.errors import BadInputError
from loupe_calibration.transform import Transform
from loupe_edge.engines import open_engine
from loupe_edge.inspect_pictures import VERDICTS, PictureVerdict, inspect_pictures, verdicts_table
from loupe_edge.inspector import Inspector
from loupe_models.bundle import Bundle
from loupe_models.errors import BundleError, FrameError
from loupe_models.frame import Frame
from loupe_models.gate import GateSpec

MakeFrame = Callable[..., Frame]


def quiet(_done: int, _total: int) -> None:
    """Nobody watches."""


@pytest.fixture
def inspector(tiny_bundle: Bundle) -> Iterator[Inspector]:
    engine = open_engine(tiny_bundle, "rgb")
    yield Inspector(tiny_bundle, "rgb", engine)
    engine.close()


def save(path: Path, frame: Frame) -> Path:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(frame.rgb)[..., ::-1])
    return path


@pytest.fixture
def pictures(tmp_path: Path, make_frame: MakeFrame) -> Path:
    for seed, kind in enumerate(["good", "defect", "empty"]):
        save(tmp_path / "in" / f"{seed}-{kind}.png", make_frame(kind, seed))
    (tmp_path / "in" / "notes.txt").write_text("not a picture", encoding="utf-8")
    return tmp_path / "in"


def test_every_picture_of_a_folder_gets_a_verdict_and_an_overlay(
    inspector: Inspector, pictures: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    out = tmp_path / "deep" / "out"
    verdicts = inspect_pictures(inspector, pictures, out, lambda n, of: told.append((n, of)))
    assert [(v.picture, v.decision) for v in verdicts] == [
        ("0-good.png", "good"),
        ("1-defect.png", "defect"),
        ("2-empty.png", "unknown"),  # no part is not a good part
    ]
    assert verdicts[1].regions
    assert verdicts[2].score is None
    assert "gate" in verdicts[2].reason
    for verdict in verdicts:
        assert cv2.imread(str(out / verdict.overlay)) is not None
    lines = (out / VERDICTS).read_text(encoding="utf-8").splitlines()
    assert [PictureVerdict.model_validate_json(line) for line in lines] == verdicts
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_scores_are_those_of_the_line(
    inspector: Inspector, tmp_path: Path, make_frame: MakeFrame
) -> None:
    frame = make_frame("defect", 5)
    (verdict,) = inspect_pictures(
        inspector, save(tmp_path / "a" / "a.png", frame), tmp_path / "out", quiet
    )
    on_the_line = inspector.inspect(frame)
    assert on_the_line is not None
    assert (verdict.score, verdict.regions) == (on_the_line.score, on_the_line.regions)


def test_a_second_run_replaces_the_first(
    inspector: Inspector, pictures: Path, tmp_path: Path
) -> None:
    inspect_pictures(inspector, pictures, tmp_path / "out", quiet)
    (pictures / "0-good.png").unlink()
    inspect_pictures(inspector, pictures, tmp_path / "out", quiet)
    lines = (tmp_path / "out" / VERDICTS).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["picture"] for line in lines] == ["1-defect.png", "2-empty.png"]


def test_pictures_of_one_name_do_not_share_an_overlay(
    inspector: Inspector, tmp_path: Path, make_frame: MakeFrame
) -> None:
    for name in ("a.png", "a.bmp"):
        save(tmp_path / "in" / name, make_frame("good", 1))
    verdicts = inspect_pictures(inspector, tmp_path / "in", tmp_path / "out", quiet)
    assert len({v.overlay for v in verdicts}) == 2


def test_pictures_whose_overlays_would_be_named_alike_do_not_share_one(
    inspector: Inspector, tmp_path: Path, make_frame: MakeFrame
) -> None:
    names = ("x.jpg", "x.jpg.png", "x.jpg.png.png")
    for name in names:
        save(tmp_path / "in" / name, make_frame("good", 1))
    verdicts = inspect_pictures(inspector, tmp_path / "in", tmp_path / "out", quiet)
    assert [v.picture for v in verdicts] == list(names)
    assert len({v.overlay for v in verdicts}) == 3


def test_pictures_are_never_replaced_by_their_overlays(
    inspector: Inspector, tmp_path: Path, make_frame: MakeFrame
) -> None:
    picture = save(tmp_path / "overlays" / "a.png", make_frame("good", 1))
    (tmp_path / "linked").symlink_to(tmp_path / "overlays")
    before = picture.read_bytes()
    for source in (picture, picture.parent, tmp_path / "linked"):
        with pytest.raises(BadInputError, match="give another --out"):
            inspect_pictures(inspector, source, tmp_path, quiet)
    assert picture.read_bytes() == before


def test_old_verdicts_do_not_stay_beside_new_overlays(
    inspector: Inspector, pictures: Path, tmp_path: Path
) -> None:
    inspect_pictures(inspector, pictures, tmp_path / "out", quiet)
    (pictures / "1-torn.png").write_bytes(b"torn")
    with pytest.raises(BadInputError, match=r"1-torn\.png"):
        inspect_pictures(inspector, pictures, tmp_path / "out", quiet)
    assert not (tmp_path / "out" / VERDICTS).exists()


def test_a_pipe_is_refused_without_waiting_for_it(inspector: Inspector, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadInputError, match="not a regular file"):
        inspect_pictures(inspector, tmp_path / "a.png", tmp_path / "out", quiet)


def test_a_picture_that_claims_to_be_huge_is_bad_input(
    inspector: Inspector, tmp_path: Path
) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    (tmp_path / "a.png").write_bytes(png + struct.pack(">I", zlib.crc32(header)) + bytes(60))
    with pytest.raises(BadInputError, match=r"a\.png: not a picture that can be read"):
        inspect_pictures(inspector, tmp_path / "a.png", tmp_path / "out", quiet)


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_name_that_is_not_utf_8_is_shown_and_refused(
    inspector: Inspector, tmp_path: Path, make_frame: MakeFrame, is_folder: bool
) -> None:
    odd = save(tmp_path / "in" / "a.png", make_frame("good", 1)).rename(
        os.fsdecode(os.fsencode(tmp_path / "in") + b"/b\xff.png")
    )
    with pytest.raises(BadInputError, match=r"b\\udcff\.png'?: the name is not UTF-8"):
        inspect_pictures(inspector, odd.parent if is_folder else odd, tmp_path / "out", quiet)


def test_a_file_that_is_no_image_is_named_and_leaves_no_verdicts(
    inspector: Inspector, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "1-torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(BadInputError, match=r"1-torn\.png"):
        inspect_pictures(inspector, pictures, tmp_path / "out", quiet)
    assert not (tmp_path / "out" / VERDICTS).exists()


def test_a_picture_too_small_for_the_gate_says_what_fits(
    inspector: Inspector, tmp_path: Path
) -> None:
    small = save(tmp_path / "in" / "s.png", Frame.from_image(np.zeros((30, 40, 3), np.uint8)))
    with pytest.raises(FrameError, match=r"40x30.*80x68.*--whole"):
        inspect_pictures(inspector, small, tmp_path / "out", quiet)


def test_whole_pictures_may_have_any_size(
    tiny_bundle: Bundle, inspector: Inspector, tmp_path: Path
) -> None:
    whole = Inspector(tiny_bundle, "rgb", inspector.engine, gate=GateSpec())
    small = save(tmp_path / "in" / "s.png", Frame.from_image(np.full((30, 40, 3), 90, np.uint8)))
    (verdict,) = inspect_pictures(whole, small, tmp_path / "out", quiet)
    assert verdict.decision == "good"


@pytest.mark.parametrize("mode", ["depth", "rgbd"])
def test_a_mode_that_needs_depth_is_refused(
    tiny_bundle: Bundle, pictures: Path, tmp_path: Path, tiny_belt: Transform, mode: str
) -> None:
    engine = open_engine(tiny_bundle, mode)
    deep = Inspector(tiny_bundle, mode, engine, belt_from_camera=tiny_belt)
    with pytest.raises(BundleError, match="loupe-edge replay"):
        inspect_pictures(deep, pictures, tmp_path / "out", quiet)
    engine.close()


def test_the_table_begins_with_what_is_not_good(
    inspector: Inspector, pictures: Path, tmp_path: Path
) -> None:
    verdicts = inspect_pictures(inspector, pictures, tmp_path / "out", quiet)
    written = StringIO()
    Console(file=written, width=160).print(verdicts_table(verdicts))
    shown = written.getvalue()
    assert "3 pictures: 1 good, 1 defect, 1 unknown" in shown
    order = [shown.index(name) for name in ("1-defect.png", "2-empty.png", "0-good.png")]
    assert order == sorted(order)


def test_a_long_table_says_how_much_it_leaves_out(
    inspector: Inspector, pictures: Path, tmp_path: Path
) -> None:
    verdicts = inspect_pictures(inspector, pictures, tmp_path / "out", quiet)
    table = verdicts_table(verdicts * 20)
    assert table.row_count == 40
    assert table.caption == f"and 20 more in {VERDICTS}"
