"""The cache of plans: only what is whole and was made for this very device and graph is given."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from loupe_edge.engines.tensorrt.cache import MAX_PLANS, PlanCache, default_cache
from loupe_edge.engines.tensorrt.key import DeviceKey, PlanKey, driver_release, jetson_release
from loupe_edge.errors import PlanCacheError

DEVICE = DeviceKey("10.3.0", "Orin", "8.7", "CUDA 12060", "R36.4.3")
KEY = PlanKey("a" * 64, DEVICE, "strongly typed")
OTHERS = [
    replace(KEY, onnx_sha256="b" * 64),
    replace(KEY, flags="strongly typed, refit"),
    *(
        replace(KEY, device=replace(DEVICE, **{name: "other"}))
        for name in ("tensorrt", "gpu", "compute_capability", "driver", "jetpack")
    ),
]


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "cache")


def keep(cache: PlanCache, plan: bytes, key: PlanKey = KEY) -> Path:
    with cache.making(key) as kept:
        kept(plan)
    return cache.place(key)


def test_a_plan_is_kept_and_found_again(cache: PlanCache) -> None:
    assert cache.load(KEY) is None
    place = keep(cache, b"plan")
    assert PlanCache(cache.folder).load(KEY) == b"plan"
    assert sorted(file.name for file in place.iterdir()) == ["engine.plan", "plan.json"]
    assert json.loads((place / "plan.json").read_text())["key"]["device"]["gpu"] == "Orin"
    assert [p.name for p in place.parent.iterdir()] == [KEY.digest]


@pytest.mark.parametrize("other", OTHERS)
def test_whatever_a_plan_depends_on_makes_another_plan(cache: PlanCache, other: PlanKey) -> None:
    keep(cache, b"plan")
    assert cache.load(other) is None
    assert cache.load(KEY) == b"plan"


def test_every_field_of_a_key_is_in_its_name() -> None:
    assert len({key.digest for key in [KEY, *OTHERS]}) == len(OTHERS) + 1
    assert len(OTHERS) == len(KEY.document) - 1 + len(DEVICE.__dataclass_fields__)


@pytest.mark.parametrize("cut", [0, 3])
def test_a_damaged_plan_is_refused_and_replaced(
    cache: PlanCache, caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    place = keep(cache, b"plan")
    (place / "engine.plan").write_bytes(b"plan"[:cut])
    with caplog.at_level(logging.WARNING):
        assert cache.load(KEY) is None
    assert "damaged" in caplog.text
    keep(cache, b"new plan")
    assert cache.load(KEY) == b"new plan"


@pytest.mark.parametrize("record", ["", "[]", "{", '{"key": {}}', None])
def test_a_plan_of_which_nothing_is_known_is_refused(cache: PlanCache, record: str | None) -> None:
    place = keep(cache, b"plan")
    if record is None:
        (place / "plan.json").unlink()
    else:
        (place / "plan.json").write_text(record)
    assert cache.load(KEY) is None


def test_a_foreign_plan_under_our_name_is_refused(
    cache: PlanCache, caplog: pytest.LogCaptureFixture
) -> None:
    keep(cache, b"foreign", OTHERS[3]).rename(cache.place(KEY))
    with caplog.at_level(logging.WARNING):
        assert cache.load(KEY) is None
    assert "another device" in caplog.text


def test_a_build_that_fails_leaves_nothing(cache: PlanCache) -> None:
    with pytest.raises(ZeroDivisionError), cache.making(KEY):
        raise ZeroDivisionError
    assert list((cache.folder / "plans").iterdir()) == []


def test_a_plan_that_is_there_stays_while_another_is_made(cache: PlanCache) -> None:
    keep(cache, b"old")
    with cache.making(KEY):  # by one who gives up
        assert cache.load(KEY) == b"old"
    assert cache.load(KEY) == b"old"


def test_what_a_killed_builder_left_is_cleared(cache: PlanCache) -> None:
    program = (
        "import os, sys; from pathlib import Path\n"
        "from loupe_edge.engines.tensorrt.cache import PlanCache\n"
        "from loupe_edge.engines.tensorrt.key import DeviceKey, PlanKey\n"
        f"with PlanCache(Path(sys.argv[1])).making({KEY!r}) as keep: os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(cache.folder)], check=False)
    assert [p.name for p in (cache.folder / "plans").iterdir()] == [f".{KEY.digest}.making"]
    keep(cache, b"plan")
    assert [p.name for p in (cache.folder / "plans").iterdir()] == [KEY.digest]


def test_two_builders_build_one_after_the_other(cache: PlanCache) -> None:
    order: list[str] = []
    is_held = threading.Event()

    def first() -> None:
        with cache.making(KEY) as kept:
            is_held.set()
            time.sleep(0.3)
            order.append("first")
            kept(b"plan")

    thread = threading.Thread(target=first)
    thread.start()
    is_held.wait(5)
    with cache.making(KEY):
        order.append("second")
        assert cache.load(KEY) == b"plan"  # the second need not build
    thread.join()
    assert order == ["first", "second"]
    assert cache.load(KEY) == b"plan"


@pytest.mark.parametrize("place", ["/sys/kernel/loupe", "/proc/loupe/cache"])
def test_a_place_that_cannot_be_written_is_explained(place: str) -> None:
    """Two folders in which not even root makes anything."""
    cache = PlanCache(Path(place))
    assert cache.load(KEY) is None
    with pytest.raises(PlanCacheError, match=r"CacheDirectory=loupe.*--cache"), cache.making(KEY):
        pass
    with pytest.raises(PlanCacheError, match="cannot be kept"):
        cache.keep_timing(DEVICE, b"x")


@contextmanager
def nobody() -> Iterator[None]:
    """Root may write anywhere, so it becomes somebody who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_cache_that_can_only_be_read_serves_what_it_has() -> None:
    with tempfile.TemporaryDirectory() as name:
        cache = PlanCache(Path(name) / "cache")
        keep(cache, b"plan")
        Path(name).chmod(0o755)
        (cache.folder / "plans").chmod(0o555)
        with nobody():
            assert cache.load(KEY) == b"plan"
            with pytest.raises(PlanCacheError, match="can only be read"), cache.making(OTHERS[0]):
                pass
        (cache.folder / "plans").chmod(0o755)


def test_the_oldest_plans_go_when_there_are_too_many(cache: PlanCache) -> None:
    keys = [replace(KEY, onnx_sha256=f"{i:064d}") for i in range(MAX_PLANS + 3)]
    for i, key in enumerate(keys):
        os.utime(keep(cache, b"plan", key), (i, i))
    keep(cache, b"plan")
    kept = [cache.load(key) is not None for key in keys]
    assert kept == [False] * 4 + [True] * (MAX_PLANS - 1)
    assert cache.load(KEY) == b"plan"


def test_timing_is_kept_for_each_device(cache: PlanCache) -> None:
    assert cache.timing(DEVICE) == b""
    cache.keep_timing(DEVICE, b"measured")
    assert cache.timing(DEVICE) == b"measured"
    assert cache.timing(replace(DEVICE, gpu="Thor")) == b""


def test_where_plans_are_kept_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/loupe:/var/cache/other")
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/line/cache")
    assert default_cache() == Path("/var/cache/loupe")
    monkeypatch.delenv("CACHE_DIRECTORY")
    assert default_cache() == Path("/home/line/cache/loupe")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/line")
    assert default_cache() == Path("/home/line/.cache/loupe")


def test_what_a_jetson_says_of_itself(tmp_path: Path) -> None:
    assert jetson_release(tmp_path) == ""
    (tmp_path / "etc").mkdir()
    told = (
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n# KERNEL\n"
    )
    (tmp_path / "etc/nv_tegra_release").write_text(told)
    assert jetson_release(tmp_path) == "R36.4.3"
    (tmp_path / "etc/nv_tegra_release").write_text("# something new\n")
    assert jetson_release(tmp_path) == "something new"


def test_what_a_driver_says_of_itself(tmp_path: Path) -> None:
    assert driver_release(tmp_path) == ""
    (tmp_path / "sys/module/nvidia").mkdir(parents=True)
    (tmp_path / "sys/module/nvidia/version").write_text("550.54.15\n")
    assert driver_release(tmp_path) == "550.54.15"
