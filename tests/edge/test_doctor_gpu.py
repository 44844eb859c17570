"""The doctor on machines with a GPU, made up as file trees: each way to fail, and its remedy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loupe_edge.doctor_gpu import examine_gpu, examine_users, import_problem
from loupe_edge.finding import Finding

JETPACK_6 = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n"
JETSON_NODES = ("nvmap", "nvhost-gpu", "nvgpu/igpu0/channel", "nvidia0", "nvidiactl")
INSTALLED = {"tensorrt": "10.3.0", "pycuda": "2026.1"}


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """A Jetson on which everything is as it should be."""
    root = tmp_path / "root"
    write(root / "etc/nv_tegra_release", JETPACK_6)
    for node in JETSON_NODES:
        write(root / "dev" / node)
    write(root / "usr/lib/python3.10/dist-packages/tensorrt/__init__.py")
    write(root / "usr/local/cuda-12.6/include/cuda.h")
    write(root / "venv/pyvenv.cfg", "include-system-site-packages = true\n")
    return root


def told(
    root: Path,
    installed: dict[str, str] | None = None,
    problem: Callable[[str], str] = lambda _: "",
) -> dict[str, Finding]:
    have = INSTALLED if installed is None else installed
    findings = list(examine_gpu(root, root / "venv", have.get, problem))
    assert all(finding.advice for finding in findings if finding.status != "OK")
    return {finding.name: finding for finding in findings}


def test_a_jetson_as_it_should_be(jetson: Path) -> None:
    found = told(jetson)
    assert list(found) == ["gpu", "jetpack", "tensorrt", "pycuda", "gpu users"]
    assert {finding.status for finding in found.values()} == {"OK"}
    assert found["jetpack"].found == "R36.4.3, JetPack 6"


def test_a_machine_without_a_gpu_is_told_in_one_line(tmp_path: Path) -> None:
    assert list(told(tmp_path)) == ["gpu"]
    assert told(tmp_path)["gpu"].status == "OK"


def test_a_jetson_whose_gpu_is_not_there(jetson: Path) -> None:
    for node in JETSON_NODES[1:4]:
        (jetson / "dev" / node).unlink()
    found = told(jetson)["gpu"]
    assert found.status == "WARN"
    assert "--runtime nvidia" in found.advice


def test_no_permission_on_the_device_nodes(jetson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = os.access
    closed = jetson / "dev/nvmap"
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    found = told(jetson)["gpu"]
    assert found.status == "WARN"
    assert "/dev/nvmap" in found.found
    assert f"usermod -aG {closed.group()}" in found.advice
    assert f"SupplementaryGroups={closed.group()}" in found.advice


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("# R35 (release), REVISION: 4.1, X", "WARN", "JetPack 5"),
        ("# R32 (release), REVISION: 7.1, X", "WARN", "JetPack 5 or older"),
        ("# R36 (release), REVISION: 3.0, X", "WARN", "JetPack 6.0"),
        ("# R36 (release), REVISION: 4.0, X", "OK", "JetPack 6"),
        ("# R38 (release), REVISION: 2.0, X", "OK", "JetPack 7"),
        ("# something new", "WARN", "unknown release"),
    ],
)
def test_jetpack(jetson: Path, line: str, status: str, says: str) -> None:
    write(jetson / "etc/nv_tegra_release", line + "\n")
    found = told(jetson)["jetpack"]
    assert found.status == status
    assert says in found.found
    assert status == "OK" or "JetPack 6.1" in found.advice


def test_tensorrt_that_the_environment_does_not_see(jetson: Path) -> None:
    write(jetson / "venv/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    found = told(jetson, {"pycuda": "2026.1"})["tensorrt"]
    assert found.status == "WARN"
    assert "--system-site-packages" in found.advice
    assert str(jetson / "venv" / "pyvenv.cfg") in found.advice


def test_tensorrt_of_another_python(jetson: Path) -> None:
    found = told(jetson, {})["tensorrt"]
    assert f"this {sys.version_info[0]}.{sys.version_info[1]}" in found.advice


def test_no_tensorrt_at_all(jetson: Path, tmp_path: Path) -> None:
    (jetson / "usr/lib/python3.10/dist-packages/tensorrt/__init__.py").unlink()
    (jetson / "usr/lib/python3.10/dist-packages/tensorrt").rmdir()
    assert "nvidia-jetpack" in told(jetson, {})["tensorrt"].advice
    write(tmp_path / "desktop/dev/nvidia0")
    assert "loupe[gpu]" in told(tmp_path / "desktop", {})["tensorrt"].advice


@pytest.mark.parametrize(
    ("installed", "says"),
    [
        ("8.6.2", "JetPack 6.1 or newer"),
        ("10.2.0", "JetPack 6.1 or newer"),
        ("11.4.0.106", "pip uninstall tensorrt"),
        ("10.3.0", ""),
        ("10.14.1.48.post1", ""),
    ],
)
def test_versions_of_tensorrt_on_jetpack_6(jetson: Path, installed: str, says: str) -> None:
    found = told(jetson, {**INSTALLED, "tensorrt": installed})["tensorrt"]
    assert found.status == ("WARN" if says else "OK")
    assert says in found.advice
    assert installed in found.found


def test_tensorrt_whose_libraries_are_missing(jetson: Path) -> None:
    said = "ImportError: libnvinfer.so.10: cannot open shared object file"
    found = told(jetson, problem=lambda module: said if module == "tensorrt" else "")
    assert said in found["tensorrt"].found
    assert "nvidia-jetpack" in found["tensorrt"].advice
    assert found["pycuda"].status == "OK"


def test_pycuda_that_was_never_built(jetson: Path) -> None:
    found = told(jetson, {"tensorrt": "10.3.0"})["pycuda"]
    assert "CUDA_ROOT=/usr/local/cuda-12.6 PATH=/usr/local/cuda-12.6/bin:$PATH" in found.advice
    (jetson / "usr/local/cuda-12.6/include/cuda.h").unlink()
    found = told(jetson, {"tensorrt": "10.3.0"})["pycuda"]
    assert "no cuda.h" in found.found
    assert "nvidia-jetpack" in found.advice


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("ImportError: libcuda.so.1: cannot open shared object file", "driver's library"),
        ("ImportError: undefined symbol: cuDevicePrimaryCtxRelease_v2", "build it again"),
    ],
)
def test_pycuda_that_cannot_be_imported(jetson: Path, said: str, says: str) -> None:
    found = told(jetson, problem=lambda module: said if "pycuda" in module else "")["pycuda"]
    assert said in found.found
    assert says in found.advice


def test_another_process_on_the_gpu(jetson: Path) -> None:
    held = {
        4211: "/dev/nvidia0",
        4212: "/dev/null",
        77: "/dev/nvidia0",
        os.getpid(): "/dev/nvidia0",
    }
    for pid, target in held.items():
        write(jetson / f"proc/{pid}/comm", "nvidia-persiste\n" if pid == 77 else "python3\n")
        (jetson / f"proc/{pid}/fd").mkdir()
        (jetson / f"proc/{pid}/fd/5").symlink_to(target)
    write(jetson / "proc/99/comm", "gone\n")
    found = told(jetson)["gpu users"]
    assert found.status == "WARN"
    assert found.found == "python3 (4211) has it open"


def test_processes_of_other_users_are_said_to_be_hidden(
    jetson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(jetson / "proc/4211/comm", "python3\n")
    (jetson / "proc/4211/fd").mkdir()
    listed = Path.iterdir

    def refuse(folder: Path) -> object:
        if folder.name == "fd":
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "sudo" in examine_users(jetson).found


def test_an_import_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "loupe_no_such_thing.py", "raise ImportError('libcuda.so.1: not there')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert import_problem("loupe_no_such_thing") == "ImportError: libcuda.so.1: not there"
    assert import_problem("json") == ""
