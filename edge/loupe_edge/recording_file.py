"""What a `.db3` recording holds, read from its SQLite tables beside the SDK.

The SDK plays a damaged file up to the damage and then ends as if that were the end. Only the
number of images in the file tells the two apart.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from loupe_calibration.errors import FaultError
from loupe_edge.camera_settings import Stream
from loupe_edge.errors import RecordingError

IMAGE_TOPICS = ("/image/data", "/image/data/compressed", "/image/data/compressedDepth")
TIMEOUT_S = 10.0
HEADER_START, HEADER_BYTES = b"SQLite format 3\0", 100


def stream_of(topic: str) -> Stream | None:
    """Say which stream's images a topic carries; None for metadata and everything else."""
    return _owner_of(topic) if topic.endswith(IMAGE_TOPICS) else None


@dataclass(frozen=True, slots=True)
class Contents:
    """The images in a recording.

    Attributes:
        n_images: Of each stream.
        n_alone: Of each stream, those after the last image of the other: where there are many,
            the other stream died before the recording ended. 0 in a recording of one stream.
    """

    n_images: Mapping[Stream, int]
    n_alone: Mapping[Stream, int]


def read_contents(recording: Path) -> Contents:
    """Count the images of a recording.

    Raises:
        RecordingError: The file is missing, cut off, damaged, or not a recording.
    """
    if not recording.is_file():
        raise RecordingError(f"{recording}: no such recording")
    try:
        _require_every_page(recording)
        with closing(open_read_only(recording)) as connection:
            rows = connection.execute(
                "SELECT t.name FROM messages m JOIN topics t ON t.id = m.topic_id ORDER BY m.id"
            ).fetchall()
        if not all(isinstance(topic, str) for (topic,) in rows):
            raise sqlite3.DatabaseError("its topics have no names")
    except (OSError, sqlite3.Error) as error:
        raise RecordingError(
            f"{recording}: not a whole recording, or none at all ({error}); "
            f"copy it again or record again"
        ) from error
    return _contents(stream_of(topic) for (topic,) in rows)


def _require_every_page(recording: Path) -> None:
    """Compare the file's size with what its header says; SQLite notices only what it reads.

    Raises:
        sqlite3.DatabaseError: The file is cut off, or has no such header.
    """
    with recording.open("rb") as file:
        header = file.read(HEADER_BYTES)
    page_bytes = int.from_bytes(header[16:18], "big")  # 1 stands for 65,536
    whole = int.from_bytes(header[28:32], "big") * (65_536 if page_bytes == 1 else page_bytes)
    size = recording.stat().st_size
    if not header.startswith(HEADER_START):
        raise sqlite3.DatabaseError("it does not begin as a .db3 does")
    if size < whole:
        raise sqlite3.DatabaseError(f"{size} of {whole} bytes are there")


def _contents(order: Iterable[Stream | None]) -> Contents:
    images = [stream for stream in order if stream is not None]
    n_images: dict[Stream, int] = {"rgb": images.count("rgb"), "depth": images.count("depth")}
    n_alone: dict[Stream, int] = {"rgb": 0, "depth": 0}
    if all(n_images.values()):
        tail = images[::-1]
        last: Stream = tail[0]
        n_alone[last] = next(i for i, stream in enumerate(tail) if stream != last)
    return Contents(n_images, n_alone)


def set_times(recording: Path, times_ns: Mapping[Stream, Sequence[int]]) -> None:
    """Say when each image was taken, in a file that nobody else has open.

    The SDK notes when it wrote an image, and plays a recording at that speed in real time.

    Args:
        recording: Altered in place; must be a copy that may be lost.
        times_ns: Of every image, by stream, in the order of writing.

    Raises:
        FaultError: The file does not hold these images, or the disk does not take the change.
    """
    try:
        with closing(sqlite3.connect(recording, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            for topic_id, topic in connection.execute("SELECT id, name FROM topics").fetchall():
                stream = _owner_of(topic)
                if stream is not None and "/image/" in topic:
                    _set_topic_times(connection, topic_id, times_ns[stream])
            connection.execute("COMMIT")
    except (sqlite3.Error, ValueError) as error:
        raise FaultError(
            f"{recording.name}: cannot set the times of its images ({error})"
        ) from error


def _set_topic_times(
    connection: sqlite3.Connection, topic_id: int, times_ns: Sequence[int]
) -> None:
    query = "SELECT id FROM messages WHERE topic_id = ? ORDER BY id"
    ids = [row_id for (row_id,) in connection.execute(query, (topic_id,)).fetchall()]
    changes = list(zip(times_ns, ids, strict=True))
    connection.executemany("UPDATE messages SET timestamp = ? WHERE id = ?", changes)


def _owner_of(topic: str) -> Stream | None:
    if "/Color_" in topic:
        return "rgb"
    return "depth" if "/Depth_" in topic else None


def open_read_only(recording: Path) -> sqlite3.Connection:
    """Open the file without ever changing it.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    uri = f"{recording.resolve().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=TIMEOUT_S)
