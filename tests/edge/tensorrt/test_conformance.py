"""Every name of NVIDIA's that our code touches, held against the real bindings of each version.

Set-up puts the bindings beside this Python; empty libraries let them be imported.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from empty_libraries import BINDINGS, compile_libraries
from nvidia_stand_ins import FREE_OF_CUDA

HERE = Path(__file__).parent
ENGINES = ("tensorrt-10.3", "tensorrt-10.14", "tensorrt-11.4")
PROBED = dict.fromkeys(ENGINES, "tensorrt_bindings") | {"cuda-python": "cuda.bindings.runtime"}

# What our code asks of objects, which cannot be read off an expression as `trt.Builder` can.
TENSORRT_MEMBERS = {
    "Builder": ("create_network", "create_builder_config", "build_serialized_network"),
    "IBuilderConfig": (
        "set_memory_pool_limit", "clear_flag", "progress_monitor", "create_timing_cache",
        "set_timing_cache", "get_timing_cache",
    ),
    "ITimingCache": ("serialize",),
    "OnnxParser": ("parse_from_file", "num_errors", "get_error"),
    "ParserError": ("desc",),
    "Runtime": ("deserialize_cuda_engine",),
    "ICudaEngine": (
        "num_io_tensors", "get_tensor_name", "get_tensor_mode", "get_tensor_shape",
        "get_tensor_dtype", "create_execution_context",
    ),
    "IExecutionContext": ("set_tensor_address", "execute_async_v3"),
}  # fmt: skip
PYCUDA_MEMBERS = {
    "Device": ("name", "compute_capability", "get_attribute", "retain_primary_context"),
    "Context": ("push", "pop", "detach", "synchronize"),
    "Stream": ("handle", "synchronize"),
    "PagelockedHostAllocation": ("get_device_pointer", "free"),
    "DeviceAllocation": ("free",),
    "Module": ("get_function",),
    "Function": ("prepare", "prepared_async_call"),
}
# What our code asks of its own objects, of Python's and of numpy's.
OURS = {
    "address", "base", "callback", "close", "copy", "device", "dtype", "enter_context", "fill",
    "get", "host", "log", "infer", "inputs", "is_integrated", "is_lost", "is_set", "items", "join",
    "last_error", "launch", "manifest", "mode", "name", "nbytes", "outputs", "plan", "pop",
    "pop_all", "preprocess", "result", "set", "shape", "split", "strip", "submit", "timing",
    "to_device", "to_host", "values", "digest", "files", "info", "warning", "load", "making",
    "keep_timing", "itemsize", "memory", "reshape", "view", "front", "kernels", "variant", "place",
    "cache",
}  # fmt: skip


@dataclass
class Touched:
    """What a piece of our code touches.

    Attributes:
        tensorrt: Names under `trt`, such as `ILogger.Severity.ERROR`, and what is overridden.
        pycuda: Names under `cuda`.
        cudart: Names under `cudart`.
        others: Attributes of whatever else, by their name alone.
    """

    tensorrt: set[str] = field(default_factory=set)
    pycuda: set[str] = field(default_factory=set)
    cudart: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)


def touched_by(source: str) -> Touched:
    tree = ast.parse(source)
    found = Touched()
    modules = {alias.asname or alias.name for node in ast.walk(tree)
               if isinstance(node, ast.Import) for alias in node.names}  # fmt: skip
    by_root = {"trt": found.tensorrt, "cuda": found.pycuda, "cudart": found.cudart}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, *names = dotted(node)
            if root in by_root:
                by_root[root].add(".".join(names))
            elif not (root in {"self", *modules} and len(names) == 1):
                found.others.add(node.attr)
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                root, *names = dotted(base)
                if root == "trt":
                    methods = [m.name for m in node.body if isinstance(m, ast.FunctionDef)]
                    public = [name for name in methods if name[0] != "_"]
                    found.tensorrt |= {".".join([*names, method]) for method in public}
    return found


def dotted(node: ast.expr) -> list[str]:
    """`a.b.c` as its parts; the first is empty where it is no plain name."""
    if isinstance(node, ast.Attribute):
        return [*dotted(node.value), node.attr]
    return [node.id if isinstance(node, ast.Name) else ""]


def flat(members: dict[str, tuple[str, ...]]) -> set[str]:
    return {f"{kind}.{name}" for kind, names in members.items() for name in names}


def undeclared(found: Touched) -> set[str]:
    """Attributes of objects that no table names, so that nothing would hold them against NVIDIA."""
    declared = {name.partition(".")[2] for name in flat(TENSORRT_MEMBERS) | flat(PYCUDA_MEMBERS)}
    private = {name for name in found.others if name.startswith("_")}
    return found.others - declared - OURS - private


@pytest.fixture(scope="session")
def ours(repository: Path) -> Touched:
    """What all of our code touches."""
    edge = repository / "edge" / "loupe_edge"
    every = Touched()
    seam = [edge / "cuda" / f"{name}.py" for name in ("context", "shared", "device")]
    for path in (*seam, *sorted((edge / "engines" / "tensorrt").glob("*.py"))):
        if path.stem in FREE_OF_CUDA:  # which never see an object of NVIDIA's
            continue
        one = touched_by(path.read_text(encoding="utf-8"))
        for name in Touched.__dataclass_fields__:
            getattr(every, name).update(getattr(one, name))
    assert every.tensorrt
    assert every.pycuda
    assert every.cudart
    return every


@pytest.fixture(scope="session")
def bindings() -> Callable[[str], Path]:
    """`bindings(name)`: the folder of one of those that bindings.txt lists."""

    def find(name: str) -> Path:
        folder = BINDINGS / name
        if not folder.is_dir():
            pytest.skip(f"UNPROVED: OUR CALLS TO {name}, since set-up put nothing in {folder}")
        return folder

    return find


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of libraries with nothing in them, under the names that the bindings load."""
    folder = tmp_path_factory.mktemp("libraries")
    if not compile_libraries(folder):
        pytest.skip("UNPROVED: OUR CALLS TO TENSORRT, since there is no C compiler")
    return folder


@pytest.fixture(scope="session")
def run_with(
    bindings: Callable[[str], Path], libraries: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_with(name, words, given, path)`: Python, where the real bindings are found."""

    def run(
        name: str, words: list[str], given: str = "", path: Iterable[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        found = os.pathsep.join([str(bindings(name)), *path])
        return subprocess.run(
            [sys.executable, *words],
            input=given,
            env={**os.environ, "PYTHONPATH": found, "LD_LIBRARY_PATH": str(libraries)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def probe(run_with: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., Any]:
    """`probe(name, names)`: what the real bindings say of names."""

    def ask(name: str, names: Iterable[str]) -> Any:
        words = [str(HERE / "probe.py"), PROBED[name]]
        run = run_with(name, words, json.dumps(sorted(names)))
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    return ask


def test_the_tables_are_complete(ours: Touched) -> None:
    assert undeclared(ours) == set()
    used = {name for kind in (TENSORRT_MEMBERS, PYCUDA_MEMBERS) for name in flat(kind)}
    idle = {name for name in used if name.partition(".")[2] not in ours.others}
    assert idle == set()


@pytest.mark.parametrize("name", ENGINES)
def test_all_that_we_touch_is_there(ours: Touched, probe: Callable[..., Any], name: str) -> None:
    found = probe(name, ours.tensorrt | flat(TENSORRT_MEMBERS))
    assert found["version"].startswith(name.partition("-")[2])
    assert found["missing"] == []
    assert len(found["parameters"]) > 50


def test_all_that_we_touch_of_cuda_python_is_there(
    ours: Touched, probe: Callable[..., Any]
) -> None:
    assert probe("cuda-python", ours.cudart)["missing"] == []


def test_a_call_that_only_one_version_knows_is_found(probe: Callable[..., Any]) -> None:
    """That the tests above can fail: one name that 11 has lost, one that it has gained."""
    source = "builder.platform_has_fast_fp16; trt.BuilderFlag.FP16; parser.set_builder_config()"
    found = touched_by(source)
    assert found.tensorrt == {"BuilderFlag", "BuilderFlag.FP16"}
    assert undeclared(found) == {"platform_has_fast_fp16", "set_builder_config"}
    names = ["BuilderFlag.FP16", "Builder.platform_has_fast_fp16", "OnnxParser.set_builder_config"]
    assert probe("tensorrt-10.14", names)["missing"] == [names[2]]
    assert probe("tensorrt-11.4", names)["missing"] == sorted(names[:2])


ON_THE_REAL_CLASSES = """
import ctypes, sys, threading
import tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings
import tensorrt as trt
from loupe_edge.engines.tensorrt import building, engine, opening
from loupe_edge.engines.tensorrt.log import LEVELS, TENSORRT_LOG
from loupe_edge.engines.tensorrt.monitor import BuildMonitor

assert len(LEVELS) == 5
trt.ILogger.log  # the base class, of which ours is one
assert isinstance(TENSORRT_LOG, trt.ILogger)
TENSORRT_LOG.log(trt.ILogger.Severity.INTERNAL_ERROR, "out of something")
assert TENSORRT_LOG.last_error == "out of something"
stopped, told = threading.Event(), []
monitor = BuildMonitor(lambda *a: told.append(a), stopped)
assert isinstance(monitor, trt.IProgressMonitor)
monitor.phase_start("build", None, 2)
assert monitor.step_complete("build", 0)
stopped.set()
assert not monitor.step_complete("build", 1)
monitor.phase_finish("build")
assert told[-1] == (2, 2)
assert tuple(trt.Dims((1, 64, 64, 3))) == (1, 64, 64, 3)
assert [trt.nptype(t).__name__ for t in (trt.uint8, trt.float32)] == ["uint8", "float32"]
def lends_its_bytes(kind):  # whether the type has a tp_as_buffer, which bytes() asks
    table = ctypes.c_void_p.from_address(id(kind) + 20 * ctypes.sizeof(ctypes.c_void_p)).value
    return bool(table and ctypes.c_void_p.from_address(table).value)
assert [lends_its_bytes(kind) for kind in (trt.IHostMemory, trt.Builder)] == [True, False]
print(building._network_flags())
"""


@pytest.mark.parametrize(("name", "flags"), [*zip(ENGINES, (2, 2, 1), strict=True)])
def test_our_classes_stand_on_the_real_ones(
    run_with: Callable[..., subprocess.CompletedProcess[str]], name: str, flags: int
) -> None:
    path = [*sys.path, str(HERE / "stand_ins")]
    run = run_with(name, ["-W", "error", "-c", ON_THE_REAL_CLASSES], path=path)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == flags


def public(module: Any) -> dict[str, Any]:
    """The names of a stand-in that stand for the library's: classes, members, functions."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__ or name.startswith("_"):
            continue
        found[name] = value
        if inspect.isclass(value):
            members = {k: v for k, v in vars(value).items() if not k.startswith("_")}
            found.update({f"{name}.{member}": v for member, v in members.items()})
    return found


@pytest.mark.usefixtures("nvidia")
@pytest.mark.parametrize("name", ENGINES)
def test_the_stand_in_has_no_name_and_no_parameter_of_its_own(
    probe: Callable[..., Any], name: str
) -> None:
    stands = public(sys.modules["tensorrt"])
    found = probe(name, stands)
    assert found["missing"] == []
    compared = 0
    for call, value in stands.items():
        overloads = found["parameters"].get(call)
        if not inspect.isfunction(value) or not overloads:
            continue
        takes = list(inspect.signature(value).parameters)
        assert any(takes == one[: len(takes)] for one in overloads), (call, takes, overloads)
        compared += 1
    assert compared >= 20


@pytest.mark.usefixtures("nvidia")
def test_the_stand_ins_have_all_that_we_touch(ours: Touched, cuda_python: Any) -> None:
    """So that a test on stand-ins fails for our reasons, never for theirs."""
    tensorrt, pycuda = sys.modules["tensorrt"], sys.modules["pycuda.driver"]
    for module, names in (
        (tensorrt, ours.tensorrt | flat(TENSORRT_MEMBERS) - {"IBuilderConfig.progress_monitor"}),
        (pycuda, ours.pycuda | flat(PYCUDA_MEMBERS) - {"Stream.handle"}),
        (cuda_python, ours.cudart),
    ):
        assert [name for name in sorted(names) if not has(module, name)] == []


def has(module: Any, name: str) -> bool:
    try:
        reduce(getattr, name.split("."), module)
    except AttributeError:
        return False
    return True
