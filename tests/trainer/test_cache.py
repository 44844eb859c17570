import errno
import os
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.errors import FaultError
from loupe_models.frame import Frame, Rect
from loupe_models.gate import ByColour, GateSpec
from loupe_models.preprocess import Crop, PreprocessSpec, Resize
from loupe_trainer import cache
from loupe_trainer.cache import Samples, cache_tensors
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.errors import DataError
from loupe_trainer.progress import Progress, SilentProgress, Task
from loupe_trainer.views import View, Views

QUIET = SilentProgress()
SHA = "0" * 64


class Told(Progress):
    """Remembers what it was told of."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Task]:
        self.names.append(name)
        return QUIET.task(name, total, done)


def view(side: int = 32, gate: GateSpec | None = None) -> Views:
    steps = (Crop(), Resize(width_px=side, height_px=side))
    looked = View(gate=gate or GateSpec(), preprocess=PreprocessSpec(steps=steps))
    return Views(modes={"rgb": looked}, widest=looked)


@pytest.fixture(scope="module")
def data(plain_folder: Path) -> DataSet:
    return open_data(plain_folder, Reading())


def test_samples_are_what_preprocess_gives(data: DataSet, tmp_path: Path) -> None:
    looked = view()
    samples = cache_tensors(tmp_path / "c", data, data.items[:5], looked, SHA, QUIET)
    assert len(samples) == 5
    for item, frame in data.frames(data.items[:5]):
        i = samples.items.index(item)
        expected = looked.modes["rgb"].tensors(frame)
        assert expected is not None
        np.testing.assert_array_equal(samples[i]["rgb"], expected["rgb"])
        assert samples[i]["rgb"].shape == (1, 32, 32, 3)
    assert sum(1 for _ in samples) == 5
    some = samples.of(data.items[3:1:-1])
    assert [i.key for i in some.items] == [i.key for i in data.items[3:1:-1]]
    np.testing.assert_array_equal(some[0]["rgb"], samples[3]["rgb"])


def test_pixels_are_read_once(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cache_tensors(tmp_path / "c", data, data.items[:5], view(), SHA, QUIET)
    monkeypatch.setattr(View, "prepared", lambda *_: pytest.fail("preprocessed again"))
    again = cache_tensors(tmp_path / "c", data, data.items[:5], view(), SHA, QUIET)
    np.testing.assert_array_equal(again[4]["rgb"], first[4]["rgb"])


@pytest.mark.parametrize("change", ["view", "data", "items"])
def test_another_view_or_other_data_replace_the_cache(
    data: DataSet, tmp_path: Path, change: Literal["view", "data", "items"]
) -> None:
    folder = tmp_path / "c"
    cache_tensors(folder, data, data.items[:5], view(), SHA, QUIET)
    before = {f.name for f in folder.iterdir()}
    made = cache_tensors(
        folder,
        data,
        data.items[:4] if change == "items" else data.items[:5],
        view(16) if change == "view" else view(),
        "1" * 64 if change == "data" else SHA,
        QUIET,
    )
    after = {f.name for f in folder.iterdir()}
    assert len(after) == 1  # bounded: the old one is gone
    assert after != before
    assert made[0]["rgb"].shape[1] == (16 if change == "view" else 32)


def test_an_interrupted_cache_is_made_again(data: DataSet, tmp_path: Path) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    class StopsEarly:
        items, files, belt_from_camera = data.items, data.files, None
        min_depth_valid = data.min_depth_valid

        def frames(self, items: Sequence[Item]) -> Generator[tuple[Item, Frame], None, None]:
            for n, pair in enumerate(data.frames(items)):
                if n == 2:
                    raise Stopped
                yield pair

        def mask(self, item: Item) -> npt.NDArray[np.bool_] | None:
            return data.mask(item)

    with pytest.raises(Stopped):
        cache_tensors(tmp_path / "c", StopsEarly(), data.items[:5], view(), SHA, QUIET)
    assert len(cache_tensors(tmp_path / "c", data, data.items[:5], view(), SHA, QUIET)) == 5


def test_frames_without_a_part_are_left_out(data: DataSet, tmp_path: Path) -> None:
    seen = ByColour(belt_rgb=(120, 120, 120), min_contrast=10)
    spec = GateSpec(region_px=Rect(0, 0, 8, 8), occupied=seen, min_fraction=0.3)
    looked = view(gate=spec)
    samples = cache_tensors(tmp_path / "c", data, data.items, looked, SHA, QUIET)
    assert 0 < len(samples) < len(data.items)
    kept = {item.key for item in samples.items}
    for item, frame in data.frames(data.items[:30]):
        assert (looked.modes["rgb"].tensors(frame) is not None) == (item.key in kept)


def test_a_gate_that_sees_nothing_is_named(data: DataSet, tmp_path: Path) -> None:
    blind = view(gate=GateSpec(occupied=ByColour(belt_rgb=(120, 120, 120), min_contrast=100)))
    with pytest.raises(DataError, match=r"mend \[gate\]"):
        cache_tensors(tmp_path / "c", data, data.items, blind, SHA, QUIET)


def test_a_full_disk_is_told_beforehand(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MAX_CACHE_BYTES", 10_000)
    with pytest.raises(DataError, match=r"take 0\.2 MB of cache, and .* room for 0\.0 MB"):
        cache_tensors(tmp_path / "c", data, data.items, view(), SHA, QUIET)
    assert not list(Path(tmp_path / "c").rglob("*.npy"))


@pytest.mark.parametrize(
    "damage", ["cut off", "empty", "no array", "no keys", "other keys", "too few"]
)
def test_a_damaged_cache_is_made_again_and_said_so(
    data: DataSet, tmp_path: Path, damage: str
) -> None:
    whole = cache_tensors(tmp_path / "c", data, data.items[:5], view(), SHA, QUIET)
    (place,) = (tmp_path / "c").iterdir()
    array, keys = place / "rgb.npy", place / "keys.json"
    content, pixels = array.read_bytes(), np.load(array)
    if damage in {"cut off", "empty", "no array", "too few"}:
        array.unlink()  # `whole` is mapped to it
    if damage == "cut off":
        array.write_bytes(content[:5000])
    elif damage == "empty":
        array.write_bytes(b"")
    elif damage == "no keys":
        keys.write_bytes(b"")
    elif damage == "other keys":
        keys.write_text(keys.read_text().replace("00", "xx"))
    elif damage == "too few":
        np.save(array, pixels[:3])
    told = Told()
    again = cache_tensors(tmp_path / "c", data, data.items[:5], view(), SHA, told)
    assert again.items == whole.items
    np.testing.assert_array_equal(again[4]["rgb"], whole[4]["rgb"])
    assert told.names == [f"{place.name} in the cache is damaged: reading and preprocessing again"]


def test_a_disk_that_fills_up_is_a_message_and_leaves_nothing(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(FaultError, match=r"the disk is full: the cache of 80 frames takes 0\.2 MB"):
        cache_tensors(tmp_path / "c", data, data.items, view(), SHA, QUIET)
    assert not list((tmp_path / "c").iterdir())


def test_a_cache_has_no_holes(data: DataSet, tmp_path: Path) -> None:
    cache_tensors(tmp_path / "c", data, data.items, view(64), SHA, QUIET)
    (file,) = (tmp_path / "c").rglob("rgb.npy")
    assert file.stat().st_blocks * 512 >= file.stat().st_size


@pytest.mark.parametrize("still", ["colour", "depth"])
def test_a_stream_that_stands_still_is_named(data: DataSet, still: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "rgb": rng.integers(0, 255, (4, 8, 8, 3), np.uint8),
        "xyz": rng.random((4, 8, 8, 3), np.float32),
        "valid": np.ones((4, 8, 8), np.uint8),
    }
    samples = Samples(tuple(data.items[:4]), arrays, (0, 1, 2, 3), (("rgbd",),) * 4, ("rgbd",))
    assert samples.alike() is None
    name = {"colour": "rgb", "depth": "xyz"}[still]
    arrays[name][:] = arrays[name][0]
    assert samples.alike() == still
