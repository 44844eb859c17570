"""What is known of a recording's frames, and of no other's."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from loupe_edge.camera_settings import Stream
from loupe_edge.errors import RecordingError
from loupe_edge.labels import (
    label_lines,
    labels_path,
    masks_path,
    read_labels,
    read_mask,
    require_every_label,
)
from loupe_models.frame import Label, Rect

FULL = Label(
    rect_px=Rect(1, 2, 30, 40),
    source="tiles/a.jpg",
    part_id="tile-7",
    kind="defect",
    defect="crack",
    visible_in=("rgb", "depth"),
    mask="a.masks/000001.png",
)


@pytest.mark.parametrize("entries", [[], [(1, 5, Label())], [(1, 5, FULL), (2, 9, Label())]])
def test_what_is_written_is_read(tmp_path: Path, entries: list[tuple[int, int, Label]]) -> None:
    recording = tmp_path / "a.db3"
    labels_path(recording).write_text(label_lines(entries))
    labels = read_labels(recording)
    assert len(labels) == len(entries)
    for number, ns, label in entries:
        assert labels.get(number, ns) == label


def test_a_recording_without_labels_has_none(tmp_path: Path) -> None:
    labels = read_labels(tmp_path / "a.db3")
    assert len(labels) == 0
    assert labels.get(1, 5) is None


def test_number_and_time_must_both_fit(tmp_path: Path) -> None:
    """Labels of another recording, left beside this one, say nothing of it."""
    labels_path(tmp_path / "a.db3").write_text(label_lines([(1, 33_333_000, FULL)]))
    labels = read_labels(tmp_path / "a.db3")
    assert labels.get(1, 33_333_000) == FULL
    assert labels.get(1, 33_334_000) is None
    assert labels.get(2, 33_333_000) is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not json",
        "[]",
        '{"frame": 1, "camera_ns": 5}',
        '{"frame": 1, "camera_ns": 5, "label": {"kind": "perhaps"}}',
        '{"frame": 1, "camera_ns": 5, "label": {"colour": "red"}}',
        '{"frame": "one", "camera_ns": 5, "label": {}}',
        '{"frame": 1, "camera_ns": NaN, "label": {}}',
    ],
)
def test_a_line_that_is_no_label_is_named(tmp_path: Path, line: str) -> None:
    good = label_lines([(1, 5, FULL)])
    labels_path(tmp_path / "a.db3").write_text(good + line + "\n")
    with pytest.raises(RecordingError, match=r"a\.labels\.jsonl:2: not a label"):
        read_labels(tmp_path / "a.db3")


def test_a_frame_that_is_labelled_twice_is_named(tmp_path: Path) -> None:
    twice = label_lines([(1, 5, FULL), (2, 9, Label()), (1, 5, Label(kind="good"))])
    labels_path(tmp_path / "a.db3").write_text(twice)
    with pytest.raises(RecordingError, match=r"a\.labels\.jsonl:3: frame 1 is labelled twice"):
        read_labels(tmp_path / "a.db3")


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    labels_path(tmp_path / "a.db3").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordingError, match=r"a\.labels\.jsonl"):
        read_labels(tmp_path / "a.db3")


def test_masks_are_read_from_their_folder_only(tmp_path: Path) -> None:
    recording = tmp_path / "a.db3"
    masks_path(recording).mkdir()
    truth = np.zeros((6, 8), np.uint8)
    truth[2:4, 3:7] = 255
    cv2.imwrite(str(masks_path(recording) / "000001.png"), truth)
    cv2.imwrite(str(tmp_path / "secret.png"), truth)
    (masks_path(recording) / "broken.png").write_bytes(b"no picture")

    mask = read_mask(recording, FULL)
    assert mask is not None
    np.testing.assert_array_equal(mask, truth > 0)
    assert read_mask(recording, Label()) is None
    for name, named in (
        ("a.masks/../secret.png", "outside"),
        ("secret.png", "outside"),
        ("a.masks/000002.png", "missing or not a picture"),
        ("a.masks/broken.png", "missing or not a picture"),
    ):
        with pytest.raises(RecordingError, match=named):
            read_mask(recording, Label(mask=name))


def test_a_labels_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    """Without a label the gate looks elsewhere: verdicts would change, and nobody would know."""
    recording = tmp_path / "a.db3"
    images: dict[Stream, int] = {"rgb": 2, "depth": 0}
    require_every_label(recording, read_labels(recording), images)  # none at all is no fault
    labels_path(recording).write_text(label_lines([(1, 33_333_000, FULL)]))
    with pytest.raises(RecordingError, match=r"labels 1 of the recording's 2 frames; copy it"):
        require_every_label(recording, read_labels(recording), images)
