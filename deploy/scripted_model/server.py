"""The process around the application: the listening socket, uvicorn, and a stop that does not wait for readers."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from deploy.scripted_model.app import create_app
from deploy.scripted_model.connection import TransportProtocol
from deploy.scripted_model.settings import Settings
from deploy.scripted_model.world import World

_GRACE_S = 2
_BACKLOG = 2048


class ModelServer(uvicorn.Server):
    """A uvicorn server that ends all streams when it is told to stop, and tells when it listens."""

    def __init__(self, config: uvicorn.Config, world: World, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._world = world
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as uvicorn does, which waits for open responses; so they are ended first."""
        self._world.stop()
        await super().shutdown(sockets)


def bind(settings: Settings) -> socket.socket:
    """Return a listening socket; raises `OSError` if the address is taken. Port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def serve(settings: Settings, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve on `listener` until SIGINT or SIGTERM."""
    world = World(settings)
    config = uvicorn.Config(
        create_app(world),
        http=TransportProtocol,
        ws="none",
        loop="auto",
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
        proxy_headers=False,
    )
    ModelServer(config, world, ready).run([listener])
