"""Who is cancelled while it waits for the end of its own tasks is cancelled: it does not go on as if nothing were."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

from gateway.access.principal import Principal
from gateway.metrics import Metrics
from gateway.pulse import Pulse
from gateway.services import Services
from gateway.socket_session import SocketSession
from shared.commands import Commands
from tests.support.deaf import Deaf


class NoHub:
    """As much of a hub as a socket without subscriptions needs."""

    def break_at(self, _: Any) -> float:
        return float("inf")

    @contextmanager
    def watching(self, _: Any) -> Iterator[None]:
        yield


async def cancelled_in_the_end(deaf: Deaf, ending: asyncio.Task[Any]) -> bool:
    """Cancel who waits for the deaf one; return whether that ended it."""
    await deaf.called.wait()
    ending.cancel()
    deaf.heard.set()
    await asyncio.wait({ending})
    return ending.cancelled()


async def test_who_closes_the_pulse() -> None:
    deaf = Deaf()
    link = cast(Commands, SimpleNamespace(call=deaf.listen))
    pulse = Pulse(link, cast(Metrics, None), grace_s=1)
    pulse.open()
    await deaf.begun.wait()
    assert await cancelled_in_the_end(deaf, asyncio.create_task(pulse.close()))


async def test_who_serves_a_socket() -> None:
    deaf = Deaf()
    left = asyncio.Event()

    async def receive() -> dict[str, str]:
        if deaf.begun.is_set():
            await left.wait()
            return {"type": "websocket.disconnect"}
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            await deaf.listen()

    settings = SimpleNamespace(viewer_buffer_bytes=1000, heartbeat_s=1.0)
    services = cast(Services, SimpleNamespace(settings=settings, hub=NoHub()))
    session = SocketSession(services, Principal("acme", "ann"), {"type": "websocket"}, receive, send)
    serving = asyncio.create_task(session.run())
    await deaf.begun.wait()
    left.set()
    assert await cancelled_in_the_end(deaf, serving)
