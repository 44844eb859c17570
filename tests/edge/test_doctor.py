"""The doctor: each answer it can give, and that every bad one says what to do."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from loupe_edge.doctor import (
    examine,
    examine_clock,
    examine_disk,
    examine_engine,
    examine_governor,
    examine_libraries,
    examine_python,
    findings_table,
    is_fit,
)
from loupe_edge.finding import Finding


def test_this_machine_gets_an_answer_to_every_question(tmp_path: Path) -> None:
    findings = list(examine(tmp_path))
    names = [
        f.name for f in findings if f.name not in ("jetpack", "tensorrt", "pycuda", "gpu users")
    ]
    assert names == [
        "python", "libraries", "engine", "gpu", "disk", "clock", "cpu governor", "camera",
    ]  # fmt: skip
    assert all(finding.found for finding in findings)
    assert all(finding.advice for finding in findings if finding.status != "OK")


def test_the_libraries_that_run_this_test_are_found() -> None:
    finding = examine_libraries()
    assert finding.status == "OK"
    assert "onnxruntime 1." in finding.found


def test_a_camera_that_is_not_there_fails_by_its_serial(tmp_path: Path) -> None:
    pytest.importorskip("pyrealsense2", exc_type=ImportError)
    camera = list(examine(tmp_path, serial="000000000000"))[-1]
    assert (camera.name, camera.status) == ("camera", "FAIL")
    assert "000000000000" in camera.found


@pytest.mark.parametrize(
    ("running", "status"), [((3, 9, 18), "FAIL"), ((3, 10, 0), "OK"), ((3, 13, 1), "OK")]
)
def test_python(running: tuple[int, ...], status: str) -> None:
    assert examine_python(running).status == status


@pytest.mark.parametrize(
    ("providers", "status"),
    [(["CPUExecutionProvider"], "OK"), (["AzureExecutionProvider"], "FAIL"), ([], "FAIL")],
)
def test_engine(providers: list[str], status: str) -> None:
    assert examine_engine(providers).status == status


def test_disk_of_a_folder_yet_to_be_made(tmp_path: Path) -> None:
    finding = examine_disk(tmp_path / "not" / "yet")
    assert str(tmp_path.resolve()) in finding.found
    assert finding.status != "OK"
    assert "mounted" in finding.advice or "space" in finding.advice


def test_disk_of_a_plain_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    assert examine_disk(file).status == "FAIL"
    assert examine_disk(file / "below").status == "FAIL"


@pytest.mark.parametrize(("free_gb", "status"), [(0.5, "FAIL"), (5.0, "WARN"), (50.0, "OK")])
def test_disk_by_its_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gb: float, status: str
) -> None:
    class Usage:
        free = int(free_gb * 1e9)

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    finding = examine_disk(tmp_path)
    assert finding.status == status
    assert f"{free_gb:.1f} GB" in finding.found


def test_the_kernel_says_whether_the_clock_is_set() -> None:
    assert examine_clock().found in ("synchronised", "not synchronised", "cannot be asked here")


@pytest.mark.parametrize(
    ("governors", "status"),
    [
        ([], "OK"),
        (["performance", "performance"], "OK"),
        (["performance", "powersave"], "WARN"),
        (["schedutil"], "WARN"),
    ],
)
def test_governor(tmp_path: Path, governors: list[str], status: str) -> None:
    for i, governor in enumerate(governors):
        folder = tmp_path / f"cpu{i}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n", encoding="ascii")
    finding = examine_governor(tmp_path)
    assert finding.status == status
    assert all(governor in finding.found for governor in governors)


def test_fitness_is_failed_by_a_failure_and_not_by_a_warning() -> None:
    warned = [Finding("a", "OK", "x"), Finding("b", "WARN", "y", "do")]
    assert is_fit(warned)
    assert not is_fit([*warned, Finding("c", "FAIL", "z", "do")])


def test_the_table_shows_status_finding_and_advice() -> None:
    written = StringIO()
    console = Console(width=100, file=written)
    console.print(findings_table([Finding("disk", "FAIL", "0.1 GB free", "free some space")]))
    shown = written.getvalue()
    for words in ("FAIL", "disk", "0.1 GB free", "→ free some space"):
        assert words in shown
