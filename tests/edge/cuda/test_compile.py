"""The kernels compile for every GPU we name, without one, and are compiled once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loupe_edge.cuda import kernels, nvrtc
from loupe_edge.cuda.kernels import cached_cubin, read_source
from loupe_edge.cuda.nvrtc import compile_cubin, nvrtc_version
from loupe_edge.errors import EngineError, StationError

TARGETS = ("sm_87", "sm_90", "sm_110")  # Orin, Hopper, Thor
KERNEL = re.compile(r'extern "C" __global__ void(?: __launch_bounds__\(\d+\))? (\w+)\(')
LAUNCHED = re.compile(r"LAUNCHED\((\w+)\)")

pytestmark = pytest.mark.usefixtures("nvrtc")


@pytest.mark.parametrize("arch", TARGETS)
def test_every_kernel_compiles(arch: str) -> None:
    cubin = compile_cubin(read_source(), arch)
    assert cubin[:4] == b"\x7fELF"
    names = KERNEL.findall(read_source())
    assert len(names) == 9
    assert [name for name in names if f".text.{name}\0".encode() not in cubin] == []


def test_every_kernel_is_tested_on_the_host() -> None:
    host = (Path(__file__).parent / "host.cpp").read_text("utf-8")
    assert LAUNCHED.findall(host) == KERNEL.findall(read_source())


def test_what_does_not_compile_is_told_with_file_and_line() -> None:
    source = read_source().replace("points[axis * stride + rank]", "nowhere[rank]")
    with pytest.raises(EngineError, match=r'sm_87: points\.cu\(\d+\): error: .*"nowhere"'):
        compile_cubin(source, "sm_87")


def test_an_architecture_that_the_compiler_lacks_is_refused() -> None:
    with pytest.raises(EngineError, match=r"sm_72.*NVRTC_ERROR_INVALID_OPTION"):
        compile_cubin(read_source(), "sm_72")


def test_a_cubin_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_cubin("sm_87", tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".cubin"]

    def refuse(*_: str) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(kernels, "compile_cubin", refuse)
    assert cached_cubin("sm_87", tmp_path / "cache") == first
    with pytest.raises(AssertionError, match="compiled again"):
        cached_cubin("sm_90", tmp_path / "cache")
    monkeypatch.setattr(kernels, "read_source", lambda: "// another source")
    with pytest.raises(AssertionError, match="compiled again"):
        cached_cubin("sm_87", tmp_path / "cache")


def test_a_damaged_cubin_is_compiled_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = cached_cubin("sm_87", tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-40] + b"x" + whole[-39:], b""):
        path.write_bytes(damaged)
        caplog.clear()
        assert cached_cubin("sm_87", tmp_path) == first
        assert "is damaged" in caplog.text
        assert path.read_bytes() == whole


def test_where_nothing_can_be_kept_the_kernels_are_compiled_anyway(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert cached_cubin("sm_87", Path("/sys/kernel/loupe"))[:4] == b"\x7fELF"
    assert "cannot be kept" in caplog.text


def test_without_the_compiler_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvrtc._library.cache_clear()
    monkeypatch.setattr(nvrtc, "_places", lambda: iter(("libnvrtc-absent.so",)))
    with pytest.raises(StationError, match="pip install nvidia-cuda-nvrtc"):
        nvrtc_version()
    nvrtc._library.cache_clear()
