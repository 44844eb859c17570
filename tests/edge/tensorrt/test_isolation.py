"""Where nobody chose TensorRT, nothing of NVIDIA's is imported, even where it is installed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

from nvidia_stand_ins import FREE_OF_CUDA, STAND_INS


def test_only_these_files_know_of_nvidia(repository: Path) -> None:
    """TensorRT is imported in its own folder and nowhere else."""
    knowing = set()
    for department in ("calibration", "models", "edge", "trainer"):
        for path in (repository / department).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                if {name.split(".")[0] for name in names} & {"tensorrt"}:
                    knowing.add(path.parent.relative_to(repository).as_posix())
    assert knowing == {"edge/loupe_edge/engines/tensorrt"}


def test_nothing_else_imports_cuda(repository: Path) -> None:
    """Every module of the edge but those of TensorRT's folder, and what a station imports."""
    folder = repository / "edge"
    engines = folder / "loupe_edge" / "engines" / "tensorrt"
    modules = [
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in sorted((folder / "loupe_edge").rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py")
        and (path.parent != engines or path.stem in FREE_OF_CUDA)
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "roots = {name.split('.')[0] for name in sys.modules}\n"
        "loaded = roots & {'tensorrt', 'tensorrt_bindings', 'pycuda', 'cuda'}\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(STAND_INS)])},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
