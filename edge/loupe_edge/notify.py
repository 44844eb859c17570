"""What the service manager is told: one datagram to the socket that it names."""

from __future__ import annotations

import os
import socket
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"


def notify(*said: str) -> bool:
    """Tell systemd something, as sd_notify(3) describes; never waits.

    Args:
        said: Lines such as `EXTEND_TIMEOUT_USEC=60000000`.

    Returns:
        Whether it was taken: not where nobody listens, nor where the socket is full.
    """
    address = os.environ.get(SOCKET, "")
    if not address.startswith(("/", "@")):
        return False
    place = f"\0{address[1:]}" if address.startswith("@") else address  # the abstract name space
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        with socket.socket(socket.AF_UNIX, kind) as channel:
            channel.sendto("\n".join(said).encode(), place)
    except OSError:  # a line must not stand still because nobody hears of it
        return False
    return True
