"""Endpoints of ZeroMQ that mean what they say; ZeroMQ itself takes port 70000 for 4464."""

from __future__ import annotations

import re
from typing import Final

MAX_PORT: Final = 65_535
_TCP: Final = re.compile(r"tcp://.+:(\d{1,5}|\*)")
_ADVICE: Final = "give something like tcp://127.0.0.1:5555 or ipc:///run/loupe/verdicts"


def port_of(endpoint: str) -> int | None:
    """Give the TCP port; None for ipc, and where the system is to choose one.

    Raises:
        ValueError: Not an endpoint; the message says what to give.
    """
    if re.fullmatch(r"ipc://.+", endpoint):
        return None
    found = _TCP.fullmatch(endpoint)
    if found is None:
        raise ValueError(f"{endpoint!r} is neither tcp://host:port nor ipc://path; {_ADVICE}")
    if found[1] == "*":
        return None
    port = int(found[1])
    if port > MAX_PORT:
        raise ValueError(f"{endpoint!r} has port {port}, the highest is {MAX_PORT}; {_ADVICE}")
    return port or None
