"""What can go wrong at a station.

BadInputError
├── NoRuntimeError      what an engine runs on is not installed
├── StationError        the station's configuration is unusable
├── PlanCacheError      the folder for TensorRT's plans cannot be used
└── RecordingError      a recording is missing, damaged, or lacks a required stream
FaultError
├── CameraError         the camera is missing, silent, or gives what cannot be trusted
├── EngineError         an engine failed, or gave what is not a score
│   ├── PlanError       TensorRT refuses a plan, or cannot build one
│   └── EngineLostError the device answers nothing any more: only a new process helps
├── ProofError          a bundle does not say on this device what its trainer measured
├── JournalError        the disk does not take what was said
├── EvidenceError       the disk does not take the pictures of what was not good
└── ServiceError        the service itself broke: one of its threads died
EndOfRecordingError     not a fault: there are no more frames
"""

from loupe_calibration.errors import BadInputError, FaultError, LoupeError


class NoRuntimeError(BadInputError):
    """What an engine runs on is not installed; who asked for it knows how to ask for another."""


class StationError(BadInputError):
    """The station's configuration is unusable."""


class RecordingError(BadInputError):
    """A recording is missing, damaged, or lacks a required stream."""


class PlanCacheError(BadInputError):
    """The folder for TensorRT's plans cannot be used."""


class CameraError(FaultError):
    """The camera is missing, silent, or gives what cannot be trusted."""


class EngineError(FaultError):
    """An engine failed, or gave what is not a score."""


class PlanError(EngineError):
    """TensorRT refuses a plan, or cannot build one."""


class EngineLostError(EngineError):
    """The device answers nothing any more: a sticky error, which only a new process is free of."""


class ProofError(FaultError):
    """A bundle does not say on this device what its trainer measured."""


class JournalError(FaultError):
    """The disk does not take what was said."""


class EvidenceError(FaultError):
    """The disk does not take the pictures of what was not good."""


class ServiceError(FaultError):
    """The service itself broke: one of its threads died."""


class EndOfRecordingError(LoupeError):
    """There are no more frames: the ordinary end of a replay."""
