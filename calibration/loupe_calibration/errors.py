"""The root of every error Loupe raises on purpose.

LoupeError
├── BadInputError   something the user gave is wrong: exit status 2, and the message says what to do
│   └── CalibrationError
└── FaultError      something failed while running: exit status 1

Each package above adds its own leaves under one of the two branches.
"""


class LoupeError(Exception):
    """Anything Loupe reports to its user on purpose."""

    exit_status = 1


class BadInputError(LoupeError):
    """A file, setting or argument is unusable; the message says what to do about it."""

    exit_status = 2


class FaultError(LoupeError):
    """A device, engine or file system failed while running."""


class CalibrationError(BadInputError, ValueError):
    """A calibration does not fit the data it is used with.

    It is a ValueError too, so that pydantic names the file's key whose value is refused.
    """
