"""What tests of the edge share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from nvidia_stand_ins import host_library, nvidia, nvidia_kernels

from loupe_edge import cli
from loupe_edge.cuda.nvrtc import nvrtc_version
from loupe_edge.errors import StationError

__all__ = ["host_library", "nvidia", "nvidia_kernels"]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def nvrtc() -> None:
    """NVIDIA's compiler; skips where it is not installed."""
    try:
        nvrtc_version()
    except StationError as error:
        pytest.skip(f"THE GPU KERNELS ARE NOT COMPILED HERE: {error}")


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run `loupe-edge WORDS` in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["loupe-edge", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return Ended(int(ended.value.code or 0), told.out, told.err)

    return run
