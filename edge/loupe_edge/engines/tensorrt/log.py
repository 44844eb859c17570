"""TensorRT's messages, in Loupe's log."""

from __future__ import annotations

import logging

import tensorrt as trt

log = logging.getLogger(__name__)

LEVELS = {
    trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
    trt.ILogger.Severity.ERROR: logging.ERROR,
    trt.ILogger.Severity.WARNING: logging.WARNING,
    trt.ILogger.Severity.INFO: logging.DEBUG,
    trt.ILogger.Severity.VERBOSE: logging.DEBUG,
}


class TensorRtLog(trt.ILogger):
    """Takes messages from any of TensorRT's threads.

    Attributes:
        last_error: TensorRT says why only here; its calls return nothing but failure.
    """

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.last_error = "TensorRT does not say why"

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Take one message."""
        level = LEVELS.get(severity, logging.DEBUG)
        if level == logging.ERROR:
            self.last_error = msg
        log.log(level, "%s", msg)


TENSORRT_LOG = TensorRtLog()  # TensorRT wants one and the same for everything in a process
