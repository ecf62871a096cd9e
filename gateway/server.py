"""Owns the server process: its socket, its signals, its last seconds.

uvicorn would wait on SIGTERM until every connection closes by itself, and streams do not. So the first signal
drains (`gateway.live.drain`) and lets uvicorn exit after it; a second one does not wait for the drain, a third for
nothing.

Tasks: the drain, made by the first signal and owned by the server.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from gateway.connection import GuardedProtocol
from gateway.live.drain import drain
from gateway.live.finding import RESTORE_GRACE_S
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.socket_connection import GuardedSocket
from shared.tasks import end_tasks

log = logging.getLogger(__name__)

LEAST_SHUTDOWN_S = 5
KEEP_ALIVE_S = 75
"""Longer than the proxies in front keep an idle connection (60 s), or they would send into one that is closing."""


MOST_FRAME_BYTES = 65_536
"""What a client may say over a WebSocket at a time."""


LEAST_SEND_BUFFER = 65_536
"""Below this, the system has too little to keep a connection busy, however small our own bound is."""


def bind(host: str, port: int, *, reuse_port: bool = False, send_buffer: int | None = None) -> socket.socket:
    """Return a socket bound to the address; raise `OSError` if it is taken or not ours.

    `send_buffer`: bytes that the system holds for a connection that does not take them. Left to itself Linux lets that
    grow to megabytes, of which nobody's bounds know.

    `reuse_port`: share it with other processes of this user that asked for the same; a port that somebody else listens
    on is then no error if they did too, which is why it must be asked for.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for old connections
        if send_buffer is not None:  # the connections inherit it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(send_buffer, LEAST_SEND_BUFFER))
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def shutdown_s(settings: GatewaySettings) -> int:
    """Return what requests that are no streams get to finish, after the drain: more than any of them waits for Redis.

    uvicorn cancels the rest and answers with a bare 500, which an `EventSource` takes for good and an SDK repeats.
    """
    restoring = settings.lease_ms / 1000 + RESTORE_GRACE_S
    return math.ceil(max(LEAST_SHUTDOWN_S, restoring, 2 * settings.redis_deadline_s)) + 1


class GatewayServer(uvicorn.Server):
    """uvicorn with our own end."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=GuardedProtocol,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                ws=GuardedSocket,
                ws_max_size=MOST_FRAME_BYTES,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=shutdown_s(settings),
            )
        )
        # Its start and end are said in our own words; what goes wrong is still heard.
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        self._settings = settings
        self._signals = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal has been handled to the end."""
        self._loop = asyncio.get_running_loop()
        try:
            await super().serve(sockets)
        finally:
            await end_tasks(self._drain)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal. Not passed on to uvicorn, which would raise it again after a clean end."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._on_signal)

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1 and self.started:
            self._drain = asyncio.create_task(self._drain_and_exit(), name="drain")
            return
        self.should_exit = True
        self.force_exit = self._signals > 2

    async def _drain_and_exit(self) -> None:
        services = self.lifespan.state["services"]
        assert isinstance(services, Services)
        settings = self._settings
        try:
            await drain(services.hub, services.pulse, delay_s=settings.drain_delay_s, window_s=settings.drain_s)
        except Exception:
            log.exception("drain failed")
        self.should_exit = True
