"""What a measurement was made on: a figure without its machine means nothing."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

from loupe_edge.power import describe_power

DISTRIBUTIONS: Final = (
    "loupe",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "pycuda",
    "pyrealsense2",
)
MAX_THREADS: Final = 256  # of one inference; more is a slip of the finger


def describe_machine(distributions: Iterable[str] = DISTRIBUTIONS) -> dict[str, object]:
    """Describe device, power, memory, system and library versions, ready for JSON.

    Returns:
        What the platform does not tell is absent: `board` (of a Jetson, say), `gpu`, and what
        `describe_power` gives.
    """
    devices = {"board": board_name(), "gpu": gpu_names()}
    return {
        **{name: told for name, told in devices.items() if told},
        **describe_power(),
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
    return board_name() or platform.processor() or platform.machine()


def board_name(root: Path = Path("/")) -> str:
    """Give the board's name from the device tree; empty where there is none, as on a PC.

    Args:
        root: Of the file system, for tests.
    """
    return "".join(_lines(root / "proc/device-tree/model")).strip("\0 \n")


def gpu_names(root: Path = Path("/")) -> str:
    """Give the names of NVIDIA's GPUs from the driver's own account, each once.

    Args:
        root: Of the file system, for tests.
    """
    told = [
        line.partition(":")[2].strip()
        for place in sorted(root.glob("proc/driver/nvidia/gpus/*/information"))
        for line in _lines(place)
        if line.startswith("Model:")
    ]
    return ", ".join(dict.fromkeys(told))


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
