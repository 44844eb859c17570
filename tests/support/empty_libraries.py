"""Libraries with nothing in them, over which NVIDIA's bindings of TensorRT can be imported.

The bindings come from PyPI without the libraries behind them, which take gigabytes and a GPU.
Nothing of TensorRT runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

BINDINGS = Path(sys.prefix) / "bindings"  # where set-up puts them
LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
MAJORS = (10, 11)
UNDEFINED = (
    "createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry", "getPluginRegistry", "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
)  # fmt: skip


def compile_libraries(folder: Path) -> bool:
    """Make them in a folder that is there; False where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return False
    source = folder / "nothing.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in UNDEFINED))
    for library in LIBRARIES:
        for major in MAJORS:
            name = f"{library}.so.{major}"
            flags = ["-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name)]
            subprocess.run([compiler, *flags, str(source)], check=True)
    return True
