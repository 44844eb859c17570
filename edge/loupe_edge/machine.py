"""What a measurement was made on: a figure without its machine means nothing."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

DISTRIBUTIONS: Final = ("loupe", "numpy", "opencv-python-headless", "onnxruntime", "pyrealsense2")
MAX_THREADS: Final = 256  # of one inference; more is a slip of the finger


def describe_machine(distributions: Iterable[str] = DISTRIBUTIONS) -> dict[str, object]:
    """Describe processor, memory, system and library versions, ready for JSON."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(_meminfo_bytes("MemTotal") / 2**30, 1),
        "os": _os_name(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: found for name in distributions if (found := version(name))},
    }


def version(distribution: str) -> str | None:
    """Give an installed distribution's version, None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    """Give the processor's name; Arm boards say it in the device tree instead."""
    for line in _lines(Path("/proc/cpuinfo")):
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    board = "".join(_lines(Path("/proc/device-tree/model"))).strip("\0 \n")
    return board or platform.processor() or platform.machine()


def resident_bytes() -> int:
    """Give the memory this process holds in RAM."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_descriptors() -> int:
    """Count this process's open file descriptors."""
    return len(list(Path("/proc/self/fd").iterdir())) - 1  # one of them reads the folder


def _meminfo_bytes(key: str) -> int:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


def _os_name() -> str:
    for line in _lines(Path("/etc/os-release")):
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip().strip('"')
    return sys.platform


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
