"""Endpoints of ZeroMQ that mean what they say; ZeroMQ itself takes port 70000 for 4464."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

MAX_PORT: Final = 65_535
MAX_IPC_BYTES: Final = 107  # of Linux's sockaddr_un, whose last byte is a zero
_TCP: Final = re.compile(r"tcp://.+:(\d{1,5}|\*)")
ADVICE: Final = "give something like tcp://127.0.0.1:5555 or ipc:///tmp/loupe-verdicts"


def port_of(endpoint: str) -> int | None:
    """Give the TCP port; None for ipc, and where the system is to choose one.

    Raises:
        ValueError: Not an endpoint; the message says what to give.
    """
    if re.fullmatch(r"ipc://.+", endpoint):
        return None
    found = _TCP.fullmatch(endpoint)
    if found is None:
        raise ValueError(f"{endpoint!r} is neither tcp://host:port nor ipc://path; {ADVICE}")
    if found[1] == "*":
        return None
    port = int(found[1])
    if port > MAX_PORT:
        raise ValueError(f"{endpoint!r} has port {port}, the highest is {MAX_PORT}; {ADVICE}")
    return port or None


def ipc_path(endpoint: str) -> Path | None:
    """Give the file that stands for an ipc endpoint; None where there is none, or ZeroMQ's own."""
    name = endpoint.removeprefix("ipc://")
    if name in (endpoint, "*") or name.startswith("@"):  # @ names one without a file
        return None
    return Path(name)


def unbindable(endpoint: str) -> str:
    """Say why an ipc endpoint cannot be bound here; empty where nothing is in the way.

    ZeroMQ deletes whatever file has the name, before it finds out whether it can bind.
    """
    path = ipc_path(endpoint)
    if path is None:
        return ""
    n_bytes = len(os.fsencode(endpoint.removeprefix("ipc://")))
    if n_bytes > MAX_IPC_BYTES:
        return f"{path} has {n_bytes} bytes, a socket's path {MAX_IPC_BYTES} at most; {ADVICE}"
    if os.path.lexists(path) and not path.is_socket():
        return f"{path} exists and is no socket, and binding would delete it; {ADVICE}"
    if not path.parent.is_dir():
        return f"{path.parent} is no folder; make it first, or {ADVICE}"
    return ""
