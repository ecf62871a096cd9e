"""Loopback ports: is one free, and which are."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import Sequence

from deploy.local.settings import LaunchError

_SERVERS_RANGE = (27_000, 32_000)
# Not the shared generator, which test tools seed: then every process would draw the same ports.
_random = random.SystemRandom()


def require_free(host: str, ports: Sequence[int]) -> None:
    """Raise `LaunchError` if anything listens on one of `ports`, or it may not be used."""
    for port in ports:
        with socket.socket() as probe:
            # Without this, connections lingering from the previous run would count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                reason = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
                pair = " and ".join(str(each) for each in ports)
                raise LaunchError(
                    f"Port {port} on {host} {reason}, and Tailrace needs {pair} here.\n"
                    f"Stop what uses it, or choose others, for example: make run PORT={ports[0] + 80}"
                ) from error


def find_free(host: str, count: int) -> list[int]:
    """Return `count` different ports that nothing uses right now.

    They lie below the range that systems give to outgoing connections: a port of that range may be gone by the time
    a server starts, or starts again.
    """
    for _ in range(200):
        first = _random.randrange(*_SERVERS_RANGE)
        ports = [first + 7 * number for number in range(count)]
        with contextlib.suppress(LaunchError):
            require_free(host, ports)
            return ports
    raise LaunchError(f"no {count} free ports on {host}")
