"""The way down is one way: torch stays above the edge, and folders stay folders."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

DEPARTMENTS = ("calibration", "models", "edge", "trainer")
BELOW_THE_TRAINER = ("loupe_calibration", "loupe_models", "loupe_edge")
NEEDS_A_GPU = ("loupe_edge.engines.tensorrt",)  # what they import is held in test_isolation.py
HEAVY = ("torch", "transformers", "sklearn", "safetensors", "loupe_trainer")
MAX_LINES = 400


def sources(root: Path, *folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (root / folder).rglob("*.py"))


@pytest.mark.parametrize("package", BELOW_THE_TRAINER)
def test_nothing_below_the_trainer_loads_torch(package: str, repository: Path) -> None:
    folder = repository / package.removeprefix("loupe_") / package
    modules = [
        ".".join(path.relative_to(folder.parent).with_suffix("").parts)
        for path in sources(folder, ".")
        if path.name not in ("__init__.py", "__main__.py")
    ]
    modules = [name for name in modules if not name.startswith(NEEDS_A_GPU)]
    assert modules
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_the_layers_are_kept(repository: Path) -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([lint], cwd=repository, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_department_folders_and_tests_are_no_packages(repository: Path) -> None:
    """An installed `models` or `trainer` would break somebody's script."""
    assert not [d for d in DEPARTMENTS if (repository / d / "__init__.py").exists()]
    assert not list((repository / "tests").rglob("__init__.py"))
    assert not sources(repository, "systemd")


def test_files_stay_short_enough_to_read(repository: Path) -> None:
    lengths = {
        str(path.relative_to(repository)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources(repository, *DEPARTMENTS, "tests", "benchmarks")
    }
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def test_every_file_is_python_3_10(repository: Path) -> None:
    """JetPack 6 runs 3.10. This holds the syntax; mypy, told 3.10, holds the library."""
    broken = []
    for path in sources(repository, *DEPARTMENTS):
        try:
            ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
        except SyntaxError as error:
            broken.append(f"{path}: {error}")
    assert broken == []


def test_products_raise_and_catch_by_name(repository: Path) -> None:
    """No assert for validation, and `except Exception` in the service's outer loop only."""
    asserts, catch_alls = [], []
    for path in sources(repository, *DEPARTMENTS):
        name = str(path.relative_to(repository))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                asserts.append(f"{name}:{node.lineno}")
            if isinstance(node, ast.ExceptHandler) and is_catch_all(node):
                catch_alls.append(name)
    assert asserts == []
    assert len(catch_alls) <= 1
    assert set(catch_alls) <= {"edge/loupe_edge/service.py"}


def is_catch_all(handler: ast.ExceptHandler) -> bool:
    """A handler of everything that does not raise again what it caught."""
    raises_again = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(handler))
    named = isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"}
    return (handler.type is None or named) and not raises_again
