#!/usr/bin/env python3
"""Check the types of our calls to TensorRT against stubs made from the real bindings.

    .ci/tensorrt_types.py [BINDINGS]     default: the bindings that set-up put beside this Python

For each version that tests/edge/tensorrt/bindings.txt lists: import it with empty libraries, let
pybind11-stubgen write stubs, and run mypy on edge/loupe_edge/engines/tensorrt with them.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from empty_libraries import BINDINGS, compile_libraries  # noqa: E402  (where the tests' are)

OURS = ROOT / "edge" / "loupe_edge" / "engines" / "tensorrt"
# The names that a user imports are those of a package around the bindings.
PACKAGE = """# mypy: ignore-errors
from tensorrt_bindings.tensorrt import *
__version__: str
def nptype(trt_type: DataType) -> type: ...
"""
# What the bindings' own documentation, from which the stubs are made, does not say or says in words
# of its own. The two protocols are held against the real classes by test_conformance.py.
MENDED = (
    (re.compile(r"(-> |: )bool\b"), r"\1builtins.bool"),  # TensorRT has a `bool` of its own
    (re.compile(r"typing\.SupportsInt\b"), "int"),  # what it takes, and an int when it calls us
    (re.compile(r"^class IHostMemory:.*$", re.M),
     "\\g<0>\n    def __buffer__(self, flags: int, /) -> memoryview: ..."),
    (re.compile(r"^class Dims:.*$", re.M),
     "\\g<0>\n    def __iter__(self) -> typing.Iterator[int]: ..."),
)  # fmt: skip


def main() -> int:
    """Check every version that is there."""
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else BINDINGS
    found = sorted(folder for folder in place.glob("tensorrt-*") if folder.is_dir())
    if not found:
        return unproved(f"no bindings lie in {place}")
    with tempfile.TemporaryDirectory() as name:
        if not compile_libraries(Path(name)):
            return unproved("there is no C compiler")
        return max(check(folder, Path(name)) for folder in found)


def unproved(why: str) -> int:
    """Say so; that a machine cannot check is no error."""
    print(f"UNPROVED: types of our calls to TensorRT, since {why}")
    return 0


def check(bindings: Path, libraries: Path) -> int:
    """Check one version."""
    with tempfile.TemporaryDirectory() as name:
        stubs = Path(name)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
        environment["PYTHONPATH"] = os.pathsep.join([str(bindings), *sys.path])
        words = ["pybind11_stubgen", "tensorrt_bindings", "--ignore-all-errors", "-o", name]
        subprocess.run(
            [sys.executable, "-m", *words], env=environment, check=True, capture_output=True
        )
        mended = mend(stubs / "tensorrt_bindings" / "tensorrt.pyi")
        outer = stubs / "tensorrt_bindings" / "__init__.pyi"
        outer.write_text("# mypy: ignore-errors\n" + outer.read_text(encoding="utf-8"))
        (stubs / "tensorrt").mkdir()
        (stubs / "tensorrt" / "__init__.pyi").write_text(PACKAGE, encoding="utf-8")
        print(f"{bindings.name}: stubs written, {mended} places in them mended", flush=True)
        cache = ROOT / ".mypy_cache" / bindings.name
        words = ["mypy", "--cache-dir", str(cache), "--follow-imports", "silent", str(OURS)]
        environment = {**os.environ, "MYPYPATH": name}
        return subprocess.run(
            [sys.executable, "-m", *words], env=environment, cwd=ROOT, check=False
        ).returncode


def mend(stub: Path) -> int:
    """Replace signatures that C++ leaves no Python for; they accept anything."""
    lines = stub.read_text(encoding="utf-8").split("\n")
    mended = 0
    while True:
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            if error.lineno is None:
                raise
            at = error.lineno - 1
            found = re.match(r"(\s*def \w+)\(", lines[at])
            if found is None:
                raise
            lines[at] = f"{found[1]}(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:"
            mended += 1
        else:
            break
    text = "\n".join(lines)
    for what, by in MENDED:
        text, n_times = what.subn(by, text)
        mended += n_times
    first = "from __future__ import annotations\n"
    text = text.replace(first, f"# mypy: ignore-errors\n{first}import builtins\n", 1)
    stub.write_text(text, encoding="utf-8")
    return mended


if __name__ == "__main__":
    sys.exit(main())
