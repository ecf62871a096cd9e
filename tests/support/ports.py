"""Owns the loopback ports that tests hand to servers: reserved for this process as long as it lives.

Below the range that the kernel takes outgoing connections' ports from, so that no connection of anybody's lands on one
between the choice and the server's start; and locked, so that no other test process chooses the same.
"""

from __future__ import annotations

import fcntl
import random
import socket
import tempfile
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

FIRST, LAST = 11_000, 16_999
"""A Redis Cluster node listens on its port + 10000 too: below 32768, where Linux's outgoing range begins."""

# Not the shared generator, which test tools seed: then every process would try the same ports first.
_random = random.SystemRandom()

_held: list[TextIOWrapper] = []
"""A lock lives as long as its file is open: for good, since a server may be started again on its port."""


def free_port() -> int:
    """Return a port that nobody listens on and that no other test process will be given."""
    return _first_of(1)


def free_pair() -> int:
    """Return such a port whose successor is one too."""
    return _first_of(2)


def _first_of(count: int) -> int:
    for port in _random.sample(range(FIRST, LAST), LAST - FIRST):
        if all(_reserve(port + n) for n in range(count)):
            return port
    raise RuntimeError(f"every port from {FIRST} to {LAST} is taken")


def _reserve(port: int) -> bool:
    folder = Path(tempfile.gettempdir()) / "tailrace-test-ports"
    folder.mkdir(exist_ok=True)
    return _lock(folder / str(port)) and _nobody_listens(port) and _nobody_listens(port + 10_000)


def _lock(path: Path) -> bool:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return False
    _held.append(file)
    return True


def _nobody_listens(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        probe.bind(("127.0.0.1", port))
        return True
    return False
