"""CUDA graphs over the stand-in GPU; names held against NVIDIA's cuda-python."""

from __future__ import annotations

import enum
from collections.abc import Callable

from pycuda import driver

Work = list[Callable[[], None]]


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorStreamCaptureUnsupported = 900


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


GRAPHS = {"refuses": False}


def cudaStreamBeginCapture(stream: int, mode: int) -> tuple[int]:
    driver.STREAMS[stream].capture = []
    return (cudaError_t.cudaSuccess,)


def cudaStreamEndCapture(stream: int) -> tuple[int, Work | None]:
    work, driver.STREAMS[stream].capture = driver.STREAMS[stream].capture, None
    if GRAPHS["refuses"]:
        return (cudaError_t.cudaErrorStreamCaptureUnsupported, None)
    return (cudaError_t.cudaSuccess, work)


def cudaGraphInstantiate(graph: Work, flags: int) -> tuple[int, Work]:
    return (cudaError_t.cudaSuccess, graph)


def cudaGraphLaunch(graphExec: Work, stream: int) -> tuple[int]:
    driver.GPU.asked.append("launch")
    for work in graphExec:
        driver.STREAMS[stream].put(work)
    return (cudaError_t.cudaSuccess,)


def cudaGraphExecDestroy(graphExec: Work) -> tuple[int]:
    driver.GPU.asked.append("free executable")
    return (cudaError_t.cudaSuccess,)


def cudaGraphDestroy(graph: Work) -> tuple[int]:
    driver.GPU.asked.append("free graph")
    return (cudaError_t.cudaSuccess,)
