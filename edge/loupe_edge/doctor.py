"""Is this machine fit to be a station? One line a question, and what to do about each answer."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import onnxruntime
from rich.table import Table
from rich.text import Text

from loupe_edge.doctor_gpu import examine_gpu
from loupe_edge.errors import CameraError, StationError
from loupe_edge.finding import Finding
from loupe_edge.machine import version
from loupe_edge.realsense import load_sdk

STATUS_STYLE: Final = {"OK": "bold green", "WARN": "bold yellow", "FAIL": "bold red"}
NEEDED: Final = ("numpy", "scipy", "opencv-python-headless", "onnxruntime", "pydantic", "pyzmq")
LEAST_PYTHON: Final = (3, 10)
DISK_FAIL_GB, DISK_WARN_GB = 1.0, 10.0
TIMEX_BYTES: Final = 256  # struct timex is 208 bytes; the kernel fills what it knows
CLOCK_NOT_SYNCHRONISED: Final = 5  # TIME_ERROR of adjtimex(2)


def examine(folder: Path, serial: str | None = None) -> Iterator[Finding]:
    """Look at everything a station needs, quickest first.

    Args:
        folder: Where journal and evidence will be written; its disk is looked at.
        serial: The camera that must be there; any will do otherwise.
    """
    yield examine_python(sys.version_info[:3])
    yield examine_libraries()
    yield examine_engine(onnxruntime.get_available_providers())
    yield from examine_gpu()
    yield examine_disk(folder)
    yield examine_clock()
    yield examine_governor(Path("/sys/devices/system/cpu"))
    yield examine_camera(serial)


def is_fit(findings: list[Finding]) -> bool:
    """Tell whether nothing that a station needs failed."""
    return all(finding.status != "FAIL" for finding in findings)


def examine_python(running: tuple[int, ...]) -> Finding:
    """Ask for Python 3.10 or newer."""
    found = ".".join(str(part) for part in running)
    if running[:2] < LEAST_PYTHON:
        return Finding("python", "FAIL", found, "install Python 3.10 or newer")
    return Finding("python", "OK", found)


def examine_libraries() -> Finding:
    """Ask for every library the edge is built on."""
    found = {name: version(name) for name in NEEDED}
    if missing := [name for name, number in found.items() if number is None]:
        advice = "install them: pip install loupe"
        return Finding("libraries", "FAIL", f"missing: {', '.join(missing)}", advice)
    return Finding("libraries", "OK", ", ".join(f"{n} {number}" for n, number in found.items()))


def examine_engine(providers: list[str]) -> Finding:
    """Ask what can run a graph here."""
    here = [name for name in providers if not name.startswith("Azure")]  # that one is far away
    served = [name.removesuffix("ExecutionProvider") for name in here]
    found = f"onnxruntime {onnxruntime.__version__}: {', '.join(served)}"
    if "CPU" not in served:
        advice = "reinstall onnxruntime: pip install --force-reinstall onnxruntime"
        return Finding("engine", "FAIL", found, advice)
    return Finding("engine", "OK", found)


def examine_disk(folder: Path) -> Finding:
    """Ask for room for journal and evidence, and for leave to write there."""
    there = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    if not there.is_dir():
        return Finding("disk", "FAIL", f"{there.resolve()} is a file", "give a folder")
    free_gb = shutil.disk_usage(there).free / 1e9
    found = f"{free_gb:.1f} GB free at {there.resolve()}"
    if not os.access(there, os.W_OK):
        advice = "give the service's user leave to write there, or set another folder"
        return Finding("disk", "FAIL", f"{there.resolve()} is not writeable", advice)
    if free_gb < DISK_FAIL_GB:
        return Finding("disk", "FAIL", found, "free some space: verdicts could not be journalled")
    if free_gb < DISK_WARN_GB:
        return Finding("disk", "WARN", found, "lower the evidence limit, or free some space")
    if not folder.absolute().parent.is_dir():
        advice = "is a disk not mounted? mount it, or make the folder"
        return Finding("disk", "WARN", f"no folder {folder.parent}; {found}", advice)
    return Finding("disk", "OK", found)


def examine_clock() -> Finding:
    """Ask whether the clock follows a reference; verdicts expire by it."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    if state < 0:
        return Finding("clock", "WARN", "cannot be asked here", "check the host: timedatectl")
    if state == CLOCK_NOT_SYNCHRONISED:
        advice = (
            "verdicts expire by this clock: turn on time synchronisation "
            "(sudo timedatectl set-ntp true, or chrony/PTP to the line's own server)"
        )
        return Finding("clock", "WARN", "not synchronised", advice)
    return Finding("clock", "OK", "synchronised")


def examine_governor(cpu_folder: Path) -> Finding:
    """Ask whether the processor sleeps between frames, which shows as late verdicts."""
    files = sorted(cpu_folder.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    governors = {file.read_text(encoding="ascii").strip() for file in files}
    if not governors:
        return Finding("cpu governor", "OK", "none here (a virtual machine sets its own pace)")
    found = ", ".join(sorted(governors))
    if governors != {"performance"}:
        advice = (
            "the slowest verdicts will be slower: sudo cpupower frequency-set -g performance "
            "(on a Jetson: sudo nvpmodel -m 0 && sudo jetson_clocks)"
        )
        return Finding("cpu governor", "WARN", found, advice)
    return Finding("cpu governor", "OK", found)


def examine_camera(serial: str | None) -> Finding:
    """Ask for the RealSense SDK and a camera on USB 3."""
    try:
        sdk = load_sdk()
        devices = {
            d.get_info(sdk.camera_info.serial_number): d
            for d in sdk.context('{"dds":{"enabled":false}}').query_devices()
        }
    except (StationError, CameraError, RuntimeError) as error:
        return Finding("camera", "FAIL", "no RealSense SDK", str(error))
    if serial is not None and serial not in devices:
        seen = f"; there is {', '.join(devices)}" if devices else ""
        advice = "check cable and power, and the serial number in the station's file"
        return Finding("camera", "FAIL", f"no camera {serial}{seen}", advice)
    if not devices:
        advice = (
            "plug one into a USB 3 port and install librealsense's udev rules; "
            "replay, simulate and inspect work without"
        )
        return Finding("camera", "WARN", f"SDK {version('pyrealsense2')}, no camera", advice)
    return _examine_devices(sdk, devices if serial is None else {serial: devices[serial]})


def _examine_devices(sdk: ModuleType, devices: dict[str, Any]) -> Finding:
    info = sdk.camera_info
    said = []
    is_slow = False
    for serial, device in devices.items():
        name, usb = (device.get_info(i) for i in (info.name, info.usb_type_descriptor))
        is_slow = is_slow or not usb.startswith("3")
        said.append(f"{name} {serial} on USB {usb}")
    if is_slow:
        advice = "use a USB 3 port and cable: USB 2 is too slow for colour and depth together"
        return Finding("camera", "WARN", ", ".join(said), advice)
    return Finding("camera", "OK", ", ".join(said))


def findings_table(findings: list[Finding]) -> Table:
    """Lay the findings out for a terminal."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for column in ("status", "name", "found"):
        table.add_column(column, no_wrap=column != "found")
    for finding in findings:
        status = Text(finding.status, style=STATUS_STYLE[finding.status])
        said = Text(finding.found)
        if finding.advice:
            said.append(f"\n→ {finding.advice}", style="cyan")
        table.add_row(status, Text(finding.name, style="bold"), said)
    return table
