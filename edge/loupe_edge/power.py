"""How fast this machine is allowed to run: a time on a Jetson means nothing without it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

MODE_STATUS: Final = "var/lib/nvpmodel/status"  # "pmode:0002"
MODE_NAMES: Final = "etc/nvpmodel.conf"  # "< POWER_MODEL ID=2 NAME=15W >"
CPU_CLOCKS: Final = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"  # kilohertz
GPU_CLOCKS: Final = "sys/class/devfreq/*"  # hertz; of several engines, the GPU is one
GPU_NAMES: Final = ("gpu", "ga10b", "gv11b", "gp10b")


def describe_power(root: Path = Path("/")) -> dict[str, object]:
    """Give power mode and clocks, as far as the platform tells, ready for JSON.

    Args:
        root: Of the file system, for tests.

    Returns:
        `power_mode`, `cpu_mhz` and `cpu_max_mhz` (of the fastest core), `gpu_mhz` and
        `gpu_max_mhz`; what the platform does not tell is absent.
    """
    cores = sorted(root.glob(CPU_CLOCKS))
    gpus = [place for place in sorted(root.glob(GPU_CLOCKS)) if place.name.endswith(GPU_NAMES)]
    told = {
        "power_mode": _power_mode(root),
        "cpu_mhz": _fastest(cores, "scaling_cur_freq", 1e3),
        "cpu_max_mhz": _fastest(cores, "scaling_max_freq", 1e3),
        "gpu_mhz": _fastest(gpus, "cur_freq", 1e6),
        "gpu_max_mhz": _fastest(gpus, "max_freq", 1e6),
    }
    return {name: value for name, value in told.items() if value is not None}


def _power_mode(root: Path) -> str | None:
    found = re.search(r"pmode:\s*(\d+)", _text(root / MODE_STATUS))
    if found is None:
        return None
    number = int(found[1])
    for line in _text(root / MODE_NAMES).splitlines():
        named = re.search(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", line)
        if named is not None and int(named[1]) == number:
            return named[2]
    return str(number)


def _fastest(places: list[Path], name: str, unit: float) -> int | None:
    clocks = [int(text) for place in places if (text := _text(place / name).strip()).isdigit()]
    return round(max(clocks) / unit) if clocks else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
