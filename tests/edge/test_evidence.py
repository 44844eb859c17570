"""Evidence of whatever was not good, bounded, each entry whole or absent."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from loupe_calibration.transform import Transform
from loupe_edge.aggregate import Look
from loupe_edge.engines import open_engine
from loupe_edge.errors import EvidenceError
from loupe_edge.evidence import EvidenceFolder
from loupe_edge.inspector import Inspector
from loupe_edge.overlays import MapScale
from loupe_edge.verdict import Verdict
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame
from loupe_models.making import hold

SCALES = dict.fromkeys(("rgb", "depth", "rgbd"), MapScale(-1.0, 3.0))


@pytest.fixture
def look(tiny_bundle: Bundle, make_frame: Callable[..., Frame], tiny_belt: Transform) -> Look:
    engine = open_engine(tiny_bundle, "rgbd")
    frame = make_frame("defect", streams=("rgb", "depth"))
    found = Inspector(tiny_bundle, "rgbd", engine, belt_from_camera=tiny_belt).inspect(frame)
    assert found is not None
    return Look(frame, found)


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_an_entry_shows_what_was_seen_and_said(
    tmp_path: Path, look: Look, make_verdict: Callable[..., Verdict]
) -> None:
    evidence = EvidenceFolder(tmp_path / "evidence", SCALES, 10, 10)
    verdict = make_verdict(decision="defect", epoch=5, seq=6, score=9.0)
    evidence.record(look, verdict)
    entry = tmp_path / "evidence" / "00000000000000000005-00000006"
    assert entries(entry) == ["depth.png", "overlay.png", "rgb.png", "verdict.json"]
    assert Verdict.model_validate_json((entry / "verdict.json").read_text()) == verdict
    x, y, width, height = look.inspection.region
    window = (slice(y, y + height), slice(x, x + width))
    assert look.frame.rgb is not None
    assert look.frame.depth is not None
    rgb = cv2.imread(str(entry / "rgb.png"), cv2.IMREAD_COLOR)
    depth = cv2.imread(str(entry / "depth.png"), cv2.IMREAD_UNCHANGED)
    assert rgb is not None
    assert depth is not None
    np.testing.assert_array_equal(rgb[..., ::-1], look.frame.rgb[window])
    np.testing.assert_array_equal(depth, look.frame.depth[window])


def test_good_needs_no_evidence(
    tmp_path: Path, look: Look, make_verdict: Callable[..., Verdict]
) -> None:
    evidence = EvidenceFolder(tmp_path, SCALES, 10, 10)
    evidence.record(look, make_verdict(decision="good"))
    assert entries(tmp_path) == []


def test_the_newest_stay_within_the_count_also_over_restarts(
    tmp_path: Path, look: Look, make_verdict: Callable[..., Verdict]
) -> None:
    for epoch in (1, 2):
        evidence = EvidenceFolder(tmp_path, SCALES, 4, 1000)
        for seq in range(3):
            evidence.record(look, make_verdict(decision="unknown", epoch=epoch, seq=seq))
            assert len(entries(tmp_path)) <= 4
    kept = [tuple(int(part) for part in name.split("-")) for name in entries(tmp_path)]
    assert kept == [(1, 2), (2, 0), (2, 1), (2, 2)]


def test_the_newest_stay_within_the_size(
    tmp_path: Path, look: Look, make_verdict: Callable[..., Verdict]
) -> None:
    probe = EvidenceFolder(tmp_path / "probe", SCALES, 10, 10)
    probe.record(look, make_verdict(decision="defect"))
    size = sum(file.stat().st_size for file in (tmp_path / "probe").rglob("*.*"))
    n_fit = 1_000_000 // size
    evidence = EvidenceFolder(tmp_path / "evidence", SCALES, 10_000, 1)
    for seq in range(n_fit + 5):
        evidence.record(look, make_verdict(decision="defect", seq=seq))
    total = sum(f.stat().st_size for f in (tmp_path / "evidence").rglob("*") if f.is_file())
    assert total <= 1_000_000
    assert len(entries(tmp_path / "evidence")) >= n_fit - 1
    assert entries(tmp_path / "evidence")[-1].endswith(f"{n_fit + 4:08d}")


NAME = "00000000000000000001-00000000"


def test_what_an_interrupted_run_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / f".making-{NAME}").mkdir()
    (tmp_path / f".making-{NAME}" / "rgb.png").write_bytes(b"half")
    EvidenceFolder(tmp_path, SCALES, 10, 10)
    assert entries(tmp_path) == []


def test_what_another_station_is_making_stays(tmp_path: Path) -> None:
    making = tmp_path / f".making-{NAME}"
    handle = hold(making)
    (making / "rgb.png").write_bytes(b"half")
    EvidenceFolder(tmp_path, SCALES, 10, 10)
    os.close(handle)
    assert entries(making) == ["rgb.png"]


def test_what_is_not_ours_is_neither_counted_nor_removed(
    tmp_path: Path, look: Look, make_verdict: Callable[..., Verdict]
) -> None:
    folder = tmp_path / "evidence"
    theirs = ["0-photos", "bundle", ".making-of", "1-2", f"{NAME}.old", "photos-of-the-line"]
    for name in theirs:
        (folder / name).mkdir(parents=True)
        (folder / name / "a.jpg").write_bytes(bytes(2_000_000))
    (folder / NAME).symlink_to(tmp_path)
    evidence = EvidenceFolder(folder, SCALES, 2, 1)
    for seq in range(4):
        evidence.record(look, make_verdict(decision="defect", epoch=9, seq=seq))
    ours = {f"{9:020d}-{seq:08d}" for seq in (2, 3)}
    assert set(entries(folder)) == {*theirs, NAME, *ours}
    assert all((folder / name / "a.jpg").exists() for name in theirs)


def test_a_full_disk_costs_the_oldest(
    tmp_path: Path,
    look: Look,
    make_verdict: Callable[..., Verdict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk holds two entries and a half, and is filled far below our own limit."""
    evidence = EvidenceFolder(tmp_path, SCALES, 100, 100)
    evidence.record(look, make_verdict(decision="defect", seq=0))
    disk = sum(file.stat().st_size for file in tmp_path.rglob("*.*")) * 2.5
    write = Path.write_bytes

    def write_if_it_fits(path: Path, content: bytes) -> int:
        used = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
        if used + len(content) > disk:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_if_it_fits)
    for seq in range(1, 5):
        evidence.record(look, make_verdict(decision="defect", seq=seq))
    assert [int(name.split("-")[1]) for name in entries(tmp_path)] == [3, 4]
    disk = 0
    with pytest.raises(EvidenceError, match=r"No space left.*free some space"):
        evidence.record(look, make_verdict(decision="defect", seq=5))
    assert not list(tmp_path.glob(".making-*"))


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvidenceError, match=r"record\.folder .*file"):
        EvidenceFolder(tmp_path / "file" / "evidence", SCALES, 10, 10)


def test_a_vanished_folder_is_an_evidence_error(
    tmp_path: Path, look: Look, make_verdict: Callable[..., Verdict]
) -> None:
    evidence = EvidenceFolder(tmp_path / "evidence", SCALES, 10, 10)
    (tmp_path / "evidence").rmdir()
    with pytest.raises(EvidenceError, match="No such file"):
        evidence.record(look, make_verdict(decision="defect"))
