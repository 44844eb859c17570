"""A plan on TensorRT: one execution context and one stream, in the thread that opens it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager

import numpy as np
import pycuda.driver as cuda
import tensorrt as trt

from loupe_calibration.transform import Transform
from loupe_edge.cuda.context import PrimaryContext, cuda_explained
from loupe_edge.cuda.device import PyCudaDevice
from loupe_edge.cuda.front import GpuFront
from loupe_edge.cuda.shared import DeviceArray, allocate
from loupe_edge.engines.tensorrt.graph import CudaGraph, captured
from loupe_edge.engines.tensorrt.log import TENSORRT_LOG
from loupe_edge.engines.tensors import take_tensors
from loupe_edge.errors import EngineError, EngineLostError, PlanError
from loupe_edge.protocols import Outputs
from loupe_models.frame import Frame, Rect
from loupe_models.manifest import TensorSpec
from loupe_models.preprocess import Prepared, PreprocessSpec, Tensors, preprocess

log = logging.getLogger(__name__)


class TensorRtEngine:
    """A plan, warm, with buffers that are bound once; use and close it where it was opened.

    Args:
        plan: Built on this device by this TensorRT.
        inputs: As the manifest says.
        outputs: As the manifest says.
        kernels: The GPU front's, compiled for this GPU, which then prepares the tensors in the
            same context and on the same stream; None leaves that to NumPy.

    Raises:
        PlanError: TensorRT refuses the plan, or the plan is of another graph.
        EngineError: There is no GPU, no memory, the first run fails, or the kernels do not load.
    """

    def __init__(
        self,
        plan: bytes,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        kernels: bytes | None = None,
    ) -> None:
        self._thread = threading.get_ident()
        self._graph: CudaGraph | None = None
        self._front: GpuFront | None = None
        with ExitStack() as stack:  # freed in reverse, the context of all of it last
            self._primary = stack.enter_context(closing(PrimaryContext()))
            self._open_stream(stack)
            self._inputs = self._make_tensors(inputs, stack)
            self._outputs = self._make_tensors(outputs, stack)
            self._load(plan, stack)
            self._warm_up(stack)
            if kernels is not None:
                self._open_front(kernels, stack)
            self._resources: ExitStack | None = stack.pop_all()
        log.info(
            "TensorRT %s, %s, CUDA graph: %s",
            trt.__version__,
            "mapped memory" if self._primary.is_integrated else "copies",
            "yes" if self._graph else "no",
        )

    def infer(self, tensors: Tensors) -> Outputs:
        """Run one frame; the outputs are the caller's to keep.

        Raises:
            EngineError: A tensor does not fit the graph, the runtime failed, or another thread
                calls.
            EngineLostError: The device answers nothing any more.
        """
        with self._working():
            take_tensors({name: tensor.host for name, tensor in self._inputs.items()}, tensors)
            self._run()
            return {name: tensor.host.copy() for name, tensor in self._outputs.items()}

    def preprocess(
        self, frame: Frame, region: Rect, spec: PreprocessSpec, belt: Transform | None
    ) -> Prepared:
        """Make the graph's tensors: on the GPU where kernels were given, else as the host does.

        Raises:
            FrameError: As the numpy preprocessing, in the same words.
            EngineError: The device failed, or another thread calls.
            EngineLostError: The device answers nothing any more.
        """
        with self._working():
            make = preprocess if self._front is None else self._front.preprocess
            return make(frame, region, spec, belt)

    def close(self) -> None:
        """Free what the engine holds; safe to call twice.

        Raises:
            EngineError: Another thread calls.
        """
        if self._resources is None:
            return
        if threading.get_ident() != self._thread:
            raise EngineError("a TensorRT engine is closed only in the thread that opened it")
        resources, self._resources = self._resources, None
        resources.close()

    @contextmanager
    def _working(self) -> Iterator[ExitStack]:
        """Refuse what cannot work, and tell a failure from a device that is lost.

        Raises:
            EngineError: The engine is closed, another thread calls, or as raised within.
            EngineLostError: An error within, after which the device answers nothing any more.
        """
        if self._resources is None:
            raise EngineError("the engine is closed")
        if threading.get_ident() != self._thread:
            raise EngineError("a TensorRT engine works only in the thread that opened it")
        try:
            yield self._resources
        except EngineError as error:
            if self._primary.is_lost():
                raise EngineLostError(f"the GPU is lost to this process: {error}") from error
            raise

    def _open_front(self, kernels: bytes, stack: ExitStack) -> None:
        self._front = GpuFront(PyCudaDevice(self._stream, kernels))
        stack.callback(self._close_front)

    def _close_front(self) -> None:
        if self._front is not None:
            self._front.close()
            self._front = None  # its module and its hold on the stream go with the last reference

    def _open_stream(self, stack: ExitStack) -> None:
        with cuda_explained("the GPU gives no stream"):
            self._stream = cuda.Stream()

        def drop() -> None:
            del self._stream  # PyCUDA frees it with its last reference

        stack.callback(drop)

    def _make_tensors(
        self, specs: Sequence[TensorSpec], stack: ExitStack
    ) -> Mapping[str, DeviceArray]:
        tensors: dict[str, DeviceArray] = {}
        for spec in specs:
            tensor = allocate(spec.shape, spec.dtype, is_mapped=self._primary.is_integrated)
            stack.callback(tensor.memory.close)
            tensor.host.fill(0)  # what the first run reads
            tensors[spec.name] = tensor
        return tensors

    def _load(self, plan: bytes, stack: ExitStack) -> None:
        runtime = trt.Runtime(TENSORRT_LOG)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise PlanError(f"TensorRT refuses the plan ({TENSORRT_LOG.last_error})")
        tensors = {**self._inputs, **self._outputs}
        _require_fit(engine, self._inputs, tensors)
        context = engine.create_execution_context()
        if context is None:
            raise EngineError(f"no room to run the plan ({TENSORRT_LOG.last_error})")
        for name, tensor in tensors.items():
            if not context.set_tensor_address(name, tensor.address):
                raise PlanError(f"TensorRT takes no memory for {name} ({TENSORRT_LOG.last_error})")
        self._runtime, self._engine, self._context = runtime, engine, context

        def unload() -> None:  # TensorRT frees each with its last reference
            del self._context
            del self._engine
            del self._runtime

        stack.callback(unload)

    def _warm_up(self, stack: ExitStack) -> None:
        """Run once, since the first run does lazy work, and capture what the next ones repeat."""
        self._run()
        graph = captured(self._stream.handle, self._queue)
        if graph is None:
            return

        def drop() -> None:
            graph.close()
            self._graph = None

        self._graph = graph
        stack.callback(drop)
        self._run()

    def _run(self) -> None:
        with cuda_explained("CUDA failed"):
            if self._graph is None:
                self._queue()
            else:
                self._graph.launch(self._stream.handle)
            self._stream.synchronize()

    def _queue(self) -> None:
        with cuda_explained("CUDA failed"):
            for tensor in self._inputs.values():
                tensor.to_device(self._stream)
            if not self._context.execute_async_v3(self._stream.handle):
                raise EngineError(f"TensorRT failed: {TENSORRT_LOG.last_error}")
            for tensor in self._outputs.values():
                tensor.to_host(self._stream)


def _require_fit(
    engine: trt.ICudaEngine, inputs: Mapping[str, DeviceArray], tensors: Mapping[str, DeviceArray]
) -> None:
    """Hold the plan's tensors, by name, against the manifest's.

    Raises:
        PlanError: Names the first that differs.
    """
    names = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
    if names != set(tensors):
        raise PlanError(f"the plan has tensors {sorted(names)}, the manifest {sorted(tensors)}")
    for name, tensor in tensors.items():
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        shape = tuple(engine.get_tensor_shape(name))
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        if (is_input, shape, dtype) != (name in inputs, tensor.shape, tensor.dtype):
            raise PlanError(
                f"the plan's {name} is {dtype} {shape}, the manifest's "
                f"{tensor.dtype} {tensor.shape}"
            )
