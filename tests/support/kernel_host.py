"""The GPU front's kernels, built for this CPU from their own source."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from loupe_edge.cuda.kernels import FOLDER

SHIM = Path(__file__).resolve().parent.parent / "edge" / "cuda"
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-sign-compare")


def build_host(out: Path, sources: Path = FOLDER) -> Path:
    """Build the kernels of a folder into a shared library."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("NO g++: THE GPU KERNELS ARE NOT TESTED HERE (Debian: apt-get install g++)")
    command = [compiler, *FLAGS, "-shared", "-fPIC", f"-I{sources}", f"-I{SHIM}"]
    subprocess.run([*command, str(SHIM / "host.cpp"), "-o", str(out)], check=True)
    return out
