"""TensorRT's names over ONNX Runtime: a plan is the graph itself, with a mark before it.

Every name and parameter is held against the real bindings by
test_conformance.py. It does nothing that Loupe does not ask for.
"""

from __future__ import annotations

import enum
import io
from abc import ABC, abstractmethod
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from pycuda import driver

__version__ = "10.14.1"
MARK = b"stand-in plan of TensorRT "

BUILD = SimpleNamespace(
    n_steps=4,  # of each of two phases, one inside the other
    n_builds=0,
    threads=[],
    between_steps=lambda: None,
    spoil=lambda outputs: outputs,  # what a broken kernel makes of an answer
    said=[],  # what was asked of the builder
)


class ILogger(ABC):
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    @abstractmethod
    def log(self, severity: Severity, msg: str) -> None: ...


class IProgressMonitor(ABC):
    @abstractmethod
    def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None: ...

    @abstractmethod
    def step_complete(self, phase_name: str, step: int) -> bool: ...

    @abstractmethod
    def phase_finish(self, phase_name: str) -> None: ...


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    TF32 = 7


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = np.float32
    UINT8 = np.uint8
    INT32 = np.int32


def nptype(trt_type: DataType) -> type[np.generic]:
    found: type[np.generic] = trt_type.value
    return found


class IHostMemory(io.BytesIO):
    def __bytes__(self) -> bytes:
        return self.getvalue()


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> IHostMemory:
        return IHostMemory(self.content)


class INetworkDefinition:
    def __init__(self) -> None:
        self.graph = b""


class IBuilderConfig:
    progress_monitor: IProgressMonitor | None = None

    def __init__(self) -> None:
        self._cache = ITimingCache(b"")

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        BUILD.said.append(("workspace", pool_size))

    def clear_flag(self, flag: BuilderFlag) -> None:
        BUILD.said.append(("without", flag.name))

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        is_ours = cache.content in (b"", f"timing of {__version__}".encode())
        if is_ours or ignore_mismatch:
            self._cache = cache
        BUILD.said.append(("timing", self._cache.content))
        return is_ours

    def get_timing_cache(self) -> ITimingCache:
        return self._cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        BUILD.said.append(("flags", flags))
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        BUILD.n_builds += 1
        if config.progress_monitor is not None and not _phases(config.progress_monitor):
            self._logger.log(ILogger.Severity.ERROR, "the build was cancelled")
            return None
        config.get_timing_cache().content = f"timing of {__version__}".encode()
        return IHostMemory(MARK + __version__.encode() + b"\n" + network.graph)


def _phases(monitor: IProgressMonitor) -> bool:
    monitor.phase_start("building", "", BUILD.n_steps)
    is_wanted = True
    for i in range(BUILD.n_steps):
        monitor.phase_start(f"tactics {i}", "building", BUILD.n_steps)
        for j in range(BUILD.n_steps):
            BUILD.between_steps()
            is_wanted = is_wanted and monitor.step_complete(f"tactics {i}", j)
        monitor.phase_finish(f"tactics {i}")
        is_wanted = is_wanted and monitor.step_complete("building", i)
        if not is_wanted:
            break
    monitor.phase_finish("building")
    return is_wanted


class ParserError:
    def __init__(self, said: str) -> None:
        self._said = said

    def desc(self) -> str:
        return self._said


class OnnxParser:
    num_errors = 0

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network

    def parse_from_file(self, model: str) -> bool:
        with open(model, "rb") as stream:  # noqa: PTH123  (the real one is given text too)
            self._network.graph = stream.read()
        ops = {node.op_type for node in onnx.load_from_string(self._network.graph).graph.node}
        self.num_errors = int("Einsum" in ops)
        return not self.num_errors

    def get_error(self, index: int) -> ParserError:
        return ParserError(f"error {index}: no importer for Einsum")


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        head, _, graph = serialized_engine.partition(b"\n")
        if head != MARK + __version__.encode():
            self._logger.log(ILogger.Severity.ERROR, "the serialized plan does not match")
            return None
        driver.GPU.asked.append("engine")
        return ICudaEngine(graph)

    def __del__(self) -> None:
        driver.GPU.asked.append("free runtime")


_TYPES = {"tensor(float)": DataType.FLOAT, "tensor(uint8)": DataType.UINT8,
          "tensor(int32)": DataType.INT32}  # fmt: skip


class ICudaEngine:
    def __init__(self, graph: bytes) -> None:
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.inputs = {tensor.name: tensor for tensor in self.session.get_inputs()}
        self.outputs = {tensor.name: tensor for tensor in self.session.get_outputs()}
        self._all = {**self.inputs, **self.outputs}

    @property
    def num_io_tensors(self) -> int:
        return len(self._all)

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._all)[index])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._all[name].shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        return _TYPES[self._all[name].type]

    def create_execution_context(self) -> IExecutionContext:
        driver.GPU.asked.append("execution context")
        return IExecutionContext(self)

    def __del__(self) -> None:
        driver.GPU.asked.append("free engine")


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        driver.GPU.asked.append("execute")
        if driver.GPU.is_lost:
            return False
        driver.STREAMS[stream_handle].put(self._execute)
        return True

    def _execute(self) -> None:
        engine, memory = self._engine, driver.MEMORY
        given: dict[str, Any] = {}
        for name, tensor in engine.inputs.items():
            raw = memory[self._addresses[name]].copy()
            given[name] = raw.view(_TYPES[tensor.type].value).reshape(tensor.shape)
        found = engine.session.run(list(engine.outputs), given)
        for name, value in zip(engine.outputs, BUILD.spoil(found), strict=True):
            memory[self._addresses[name]][:] = (
                np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            )

    def __del__(self) -> None:
        driver.GPU.asked.append("free execution context")
