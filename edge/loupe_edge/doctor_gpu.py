"""Can TensorRT run here? Every way in which it cannot on a Jetson, and what to do about each.

Nothing of NVIDIA's is imported into this process. What fails is a warning: ONNX Runtime serves a
station on any machine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from loupe_edge.engines.tensorrt.key import driver_release, jetson_release
from loupe_edge.finding import Finding
from loupe_edge.machine import version

GPU_NODES: Final = ("dev/nvidia[0-9]*", "dev/nvhost-gpu", "dev/nvgpu/igpu0/*")
NODES: Final = (*GPU_NODES, "dev/nvidiactl", "dev/nvidia-uvm", "dev/nvmap", "dev/host1x-fence")
LEAST_TENSORRT: Final = (10, 3)
LEAST_RELEASE: Final = (36, 4)  # Jetson Linux of JetPack 6.1, the first with TensorRT 10.3
FIRST_OF_JETPACK_7: Final = 38
IMPORT_TIMEOUT_S: Final = 60
KEEPERS: Final = ("nvidia-persiste",)  # of the driver itself; names end after 15 letters

VersionOf = Callable[[str], str | None]
Problem = Callable[[str], str]


def import_problem(module: str) -> str:
    """Import a module in a process of its own, and give what it says; empty where all is well."""
    try:
        run = subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            capture_output=True,
            text=True,
            timeout=IMPORT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"import {module} took more than {IMPORT_TIMEOUT_S} s"
    said = run.stderr.strip().splitlines()
    return (said[-1] if said else f"status {run.returncode}") if run.returncode else ""


def examine_gpu(
    root: Path = Path("/"),
    venv: Path = Path(sys.prefix),
    version_of: VersionOf = version,
    problem: Problem = import_problem,
) -> Iterator[Finding]:
    """Look at the GPU, and at what TensorRT's engine needs.

    Args:
        root: Where the file system begins.
        venv: The virtual environment that Loupe runs in.
        version_of: Gives an installed distribution's version.
        problem: Gives what an import says.
    """
    release = jetson_release(root)
    nodes = _nodes(root, NODES)
    yield examine_nodes(root, nodes, release)
    if not nodes and not release:
        return
    if release:
        yield examine_jetpack(release)
    yield examine_tensorrt(root, venv, release, version_of("tensorrt"), problem)
    yield examine_pycuda(root, version_of("pycuda"), problem)
    if nodes:
        yield examine_users(root)


def examine_nodes(root: Path, nodes: list[Path], release: str) -> Finding:
    """Ask for leave to use the GPU's device nodes."""
    what = f"Jetson Linux {release}" if release else driver_release(root) or "a driver"
    if not _nodes(root, GPU_NODES):
        if not release:
            return Finding("gpu", "OK", "none: graphs run on the CPU; TensorRT needs one")
        advice = (
            "in a container, start it with NVIDIA's runtime (--runtime nvidia); else the GPU's "
            "driver is not loaded: look at `sudo dmesg | grep -i nvgpu`, and install JetPack again"
        )
        return Finding("gpu", "WARN", f"{what}, but no device node of a GPU", advice)
    closed = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        groups = sorted({_group(node) for node in closed})
        names = ", ".join(f"/{node.relative_to(root)}" for node in closed)
        advice = (
            f"let this user in: sudo usermod -aG {','.join(groups)} $USER, then log in again; in "
            f"the unit: SupplementaryGroups={' '.join(groups)}, and no DeviceAllow= that leaves "
            f"them out"
        )
        return Finding("gpu", "WARN", f"{what}; no permission on {names}", advice)
    return Finding("gpu", "OK", what)


def examine_jetpack(release: str) -> Finding:
    """Ask for JetPack 6.1 or newer."""
    parts = re.match(r"R(\d+)\.(\d+)", release)
    if parts is None:
        advice = "Loupe knows JetPack 6.1 to 7; compare with `apt-cache show nvidia-jetpack`"
        return Finding("jetpack", "WARN", f"unknown release {release}", advice)
    number = (int(parts[1]), int(parts[2]))
    if number < LEAST_RELEASE:
        name = "JetPack 6.0" if number[0] == LEAST_RELEASE[0] else "JetPack 5 or older"
        advice = (
            "its TensorRT is older than 10.3, which Loupe's typed graphs need: "
            "install JetPack 6.1 or newer"
        )
        return Finding("jetpack", "WARN", f"{release}, {name}", advice)
    name = "JetPack 7" if number[0] >= FIRST_OF_JETPACK_7 else "JetPack 6"
    return Finding("jetpack", "OK", f"{release}, {name}")


def examine_tensorrt(
    root: Path, venv: Path, release: str, installed: str | None, problem: Problem
) -> Finding:
    """Ask for a TensorRT that this environment sees, that is new enough, and of this platform."""
    if installed is None:
        return _missing_tensorrt(root, venv, release)
    numbers = re.findall(r"\d+", installed)
    number = tuple(int(part) for part in numbers[:2])
    if number < LEAST_TENSORRT:
        advice = "install JetPack 6.1 or newer" if release else "pip install -U 'tensorrt>=10.3'"
        return Finding("tensorrt", "WARN", f"{installed}, older than 10.3", advice)
    if release.startswith("R36.") and number[0] > LEAST_TENSORRT[0]:
        advice = (
            "TensorRT 11 does not run on JetPack 6, whose own is 10.3: pip uninstall tensorrt, "
            "and let the environment see the system's (--system-site-packages)"
        )
        return Finding("tensorrt", "WARN", f"{installed} on Jetson Linux {release}", advice)
    if said := problem("tensorrt"):
        advice = (
            "its libraries are not found: sudo apt install --reinstall nvidia-jetpack"
            if release
            else "its libraries are not found: pip install --force-reinstall tensorrt"
        )
        return Finding("tensorrt", "WARN", f"{installed}, but cannot be imported: {said}", advice)
    return Finding("tensorrt", "OK", installed)


def _missing_tensorrt(root: Path, venv: Path, release: str) -> Finding:
    ours = list(root.glob("usr/lib/python3*/dist-packages/tensorrt"))
    if ours and not _sees_system(venv):
        advice = (
            f"the system has it and this environment does not look there: python3 -m venv "
            f"--system-site-packages {venv} (or set include-system-site-packages = true in "
            f"{venv / 'pyvenv.cfg'})"
        )
        return Finding("tensorrt", "WARN", f"not in {venv}; the system has it", advice)
    if ours:
        advice = (
            f"the system's is for another Python than this {sys.version_info[0]}."
            f"{sys.version_info[1]}: make the environment with the system's python3"
        )
        return Finding("tensorrt", "WARN", "not for this Python; the system has it", advice)
    advice = (
        "sudo apt install nvidia-jetpack, then an environment with --system-site-packages"
        if release
        else "the GPU stays idle: pip install 'loupe[gpu]'"
    )
    return Finding("tensorrt", "WARN", "not installed", advice)


def examine_pycuda(root: Path, installed: str | None, problem: Problem) -> Finding:
    """Ask for a PyCUDA that was built for this CUDA; there are no wheels of it."""
    homes = sorted(p.parent.parent for p in root.glob("usr/local/cuda*/include/cuda.h"))
    home = f"/{homes[0].relative_to(root)}" if homes else ""
    rebuild = (
        f"CUDA_ROOT={home} PATH={home}/bin:$PATH pip install --no-cache-dir --force-reinstall "
        f"--no-deps pycuda"
    )
    if installed is None and not homes:
        advice = (
            "it is built from source, which needs CUDA's headers and nvcc: sudo apt install "
            "nvidia-jetpack on a Jetson, CUDA's toolkit elsewhere; then pip install pycuda"
        )
        return Finding("pycuda", "WARN", "not installed, and no cuda.h in /usr/local", advice)
    if installed is None:
        advice = (
            f"build it; `cuda.h not found` and `nvcc not in path` mean that it was not told "
            f"where CUDA is: CUDA_ROOT={home} PATH={home}/bin:$PATH pip install pycuda"
        )
        return Finding("pycuda", "WARN", f"not installed; CUDA is in {home}", advice)
    if said := problem("pycuda.driver"):
        if "libcuda" in said:
            advice = (
                "the driver's library is missing: in a container, start it with NVIDIA's runtime"
            )
        else:
            advice = f"it was built for another CUDA; build it again: {rebuild}"
        return Finding("pycuda", "WARN", f"{installed}, but cannot be imported: {said}", advice)
    return Finding("pycuda", "OK", installed)


def examine_users(root: Path) -> Finding:
    """Ask who else has the GPU open: it takes time and memory from the station."""
    gpu = {f"/{node.relative_to(root)}" for node in _nodes(root, GPU_NODES)}
    others, hidden = [], False
    for process in sorted(root.glob("proc/[0-9]*"), key=lambda p: int(p.name)):
        try:
            held = {str(link.readlink()) for link in (process / "fd").iterdir()}
            name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except PermissionError:
            hidden = True
            continue
        except OSError:  # it has just ended
            continue
        if held & gpu and int(process.name) != os.getpid() and name not in KEEPERS:
            others.append(f"{name} ({process.name})")
    unseen = "; other users' processes are hidden: sudo shows them" if hidden else ""
    if others:
        advice = (
            "a second station, a desktop or a notebook on this GPU makes verdicts late, and can "
            "take the memory that a plan needs: stop it, or give the station another machine"
        )
        return Finding("gpu users", "WARN", f"{', '.join(others)} has it open{unseen}", advice)
    return Finding("gpu users", "OK", f"nobody else{unseen}")


def _nodes(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(node for pattern in patterns for node in root.glob(pattern))


def _group(node: Path) -> str:
    try:
        return node.group()
    except (KeyError, OSError):  # a group without a name, or a node that is gone
        return "video"


def _sees_system(venv: Path) -> bool:
    try:
        text = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return True  # the system's own Python
    return re.search(r"^include-system-site-packages\s*=\s*true\s*$", text, re.M | re.I) is not None
