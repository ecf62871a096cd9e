"""Owns gateways for tests: the whole application under a real server on a real port, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from gateway.access.principal import LOCAL, Principal
from gateway.app import create_app
from gateway.server import GatewayServer, bind
from gateway.services import Services
from gateway.settings import GatewaySettings
from shared.ids import MessageRef
from shared.log.keys import user_key
from shared.log.log import Log
from tests.support.processes import PLAIN
from tests.support.wait import wait_until
from tests.support.writer import LogWriter

MODELS = '[[models]]\nname = "scripted"\nbase_url = "http://127.0.0.1:9/v1"\n\n[[models]]\nname = "other"\n'
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Say something."}]}


class _Server(GatewayServer):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the test run."""
        yield


class LiveGateway:
    """A gateway that listens."""

    def __init__(self, server: GatewayServer, url: str) -> None:
        self.server = server
        self.url = url

    @property
    def services(self) -> Services:
        """Its parts, to look inside."""
        services = self.server.lifespan.state["services"]
        assert isinstance(services, Services)
        return services

    def client(self, token: str | None = None, **more: Any) -> httpx.AsyncClient:
        """Return a client of it; `token` is sent as a bearer."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20, **more)


def settings_for(redis_url: str, folder: Path, *, models: str = MODELS, **more: Any) -> GatewaySettings:
    """Return settings for a test: a free port, two models (or what `models`, a file's text, says), and `more`."""
    path = folder / "models.toml"
    path.write_text(models)
    given = {"direct_writes": not PLAIN, **more}
    return GatewaySettings(redis_url=redis_url, port=0, upstreams_file=str(path), **given)


@asynccontextmanager
async def live_gateway(settings: GatewaySettings) -> AsyncIterator[LiveGateway]:
    """Run a gateway; it is ready on entry and gone on leaving."""
    app = create_app(settings)
    sock = bind(settings.host, settings.port, send_buffer=settings.viewer_buffer_bytes)
    server = _Server(app, settings)
    serving = asyncio.create_task(server.serve([sock]))
    try:
        await wait_until(lambda: server.started or serving.done(), what="the gateway did not start")
        host, port = sock.getsockname()[:2]
        live = LiveGateway(server, f"http://{host}:{port}")
        await wait_until(lambda: live.services.pulse.ready, what="the gateway did not get ready")
        yield live
    finally:
        server.should_exit = True
        await serving


async def started(client: httpx.AsyncClient, chat: str = "c", message: str = "m", **more: Any) -> MessageRef:
    """Start a message of these names for the local user."""
    body = {**ASK, "message_id": message, **more}
    response = await client.post(f"/chats/{quote(chat, safe='')}/messages", json=body)
    assert response.status_code == 202, response.text
    return LOCAL.ref(chat, message)


async def running(client: httpx.AsyncClient, log: Log, chat: str = "c", message: str = "m") -> LogWriter:
    """Start a message beside others and claim it; return its owner."""
    writer = LogWriter(log, await started(client, chat, message, policy="parallel"))
    await writer.claim()
    return writer


def code_of(response: httpx.Response) -> str:
    """Return the code of the native API's error, which is all that there is, and has a text."""
    body = response.json()
    assert list(body) == ["error"]
    assert body["error"]["message"]
    return str(body["error"]["code"])


async def indexed(services: Services, who: Principal = LOCAL) -> int:
    """Return how many messages the user's index names, those that are over included."""
    return int(await services.link.call("ZCARD", user_key(who.scope)))


def breaks(gateway: LiveGateway) -> list[float]:
    """Return in how many seconds each stream will be broken, the next one first."""
    now = asyncio.get_running_loop().time()
    return sorted(viewer.break_at - now for viewer in gateway.services.hub.viewers)


def sse_data(text: str) -> list[dict[str, Any]]:
    """Return the data of every event of a stream."""
    lines = [line for line in text.split("\n") if line.startswith("data: ")]
    return [msgspec.json.decode(line[6:]) for line in lines]


def sse_types(text: str) -> list[str]:
    """Return the type of every event of a stream."""
    return [str(event["type"]) for event in sse_data(text)]


@contextlib.contextmanager
def unread(url: str, path: str, times: int = 1, *, more: str = "") -> Iterator[None]:
    """Ask for `path`, so many `times` at once, and take nothing of what is answered while the block lasts.

    The system's own buffer is small. `more`: further lines of the request's head.
    """
    parts = httpx.URL(url)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((parts.host, parts.port))
        deaf.sendall(f"GET {path} HTTP/1.1\r\nHost: {parts.host}\r\n{more}\r\n".encode() * times)
        yield


async def raw_exchange(url: str, request: bytes, *, deadline_s: float = 10) -> bytes:
    """Send these bytes as they are and return all that comes back; for what no client library would send."""
    parts = httpx.URL(url)
    reader, writer = await asyncio.open_connection(parts.host, parts.port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(deadline_s):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
