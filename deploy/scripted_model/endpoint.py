"""What every endpoint that answers with a model's words does the same way: journal, body, watch, refusals, bad ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from deploy.scripted_model.bodies import read_body
from deploy.scripted_model.faults import NO_FAULTS, Fault, Faults
from deploy.scripted_model.journal import Entry
from deploy.scripted_model.outlet import JSON_HEADERS, SSE_HEADERS, Outlet
from deploy.scripted_model.refusal import Refused, error_object
from deploy.scripted_model.watch import Watch, watching
from deploy.scripted_model.world import World

logger = logging.getLogger(__name__)

FAULT_CODE = "scripted_fault"
FAULT_MESSAGE = "The scripted model was told to fail here."
MALFORMED = b'{"id":"scripted","choices":[{"index":0,"del'


class Exchange:
    """One request while it is served. `outcome` goes into the journal; None leaves the entry to somebody else."""

    def __init__(self, world: World, entry: Entry, scope: Scope, send: Send, watch: Watch) -> None:
        self.world = world
        self.entry = entry
        self.scope = scope
        self.send = send
        self.watch = watch

    def outlet(self, faults: Faults) -> Outlet:
        """Return the way to the caller, in the form `faults` ask for."""
        return Outlet(self.scope, self.send, self.watch, faults)

    async def send_json(self, body: bytes, outlet: Outlet, status: int = 200) -> str:
        """Answer with one JSON body; return the outcome."""
        await outlet.open(JSON_HEADERS, status, ((b"content-length", b"%d" % len(body)),))
        await outlet.write(body)
        await outlet.end()
        return self.watch.gone or "done"


Serve = Callable[[Exchange, bytes], Awaitable[str | None]]


class Endpoint:
    """An ASGI endpoint around `serve`, which gets the exchange and the body and returns the outcome."""

    def __init__(self, world: World, api: str, serve: Serve) -> None:
        self._world = world
        self._api = api
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry = self._world.journal.begin(self._api, Headers(scope=scope))
        outcome: str | None = "broken"
        try:
            body = await read_body(receive)
            async with watching(receive) as watch:
                with self._world.living(watch):
                    exchange = Exchange(self._world, entry, scope, send, watch)
                    outcome = await self._serve(exchange, body)
                    if watch.gone == "server_stop":
                        await exchange.outlet(NO_FAULTS).reset()
        except Refused as refusal:
            outcome = f"refused:{refusal.status}"
            await refusal.send(send)
        finally:
            if outcome is not None:
                self._world.journal.end(entry, outcome)


async def open_stream(outlet: Outlet, headers_ms: float) -> None:
    """Send the headers of an event stream, late if that was asked for."""
    if headers_ms:
        await outlet.pause_until(asyncio.get_running_loop().time() + headers_ms / 1000)
    await outlet.open(SSE_HEADERS)


async def break_stream(outlet: Outlet, fault: Fault, error_frames: bytes) -> str:
    """End an open stream the way `fault` says; return the outcome."""
    match fault.name:
        case "reset":
            await outlet.reset()
        case "hang":
            await outlet.hang()
            await outlet.end()
        case "malformed":
            await outlet.write(b"data: " + MALFORMED + b"\n\n")
            await outlet.end()
        case "error" | "string_error":
            await outlet.write(error_frames)
            await outlet.end()
        case _:
            await outlet.end()
    return f"fault:{fault.name}"


async def break_whole(exchange: Exchange, outlet: Outlet, fault: Fault) -> str:
    """Spoil an answer that has not begun yet, the way `fault` says; return the outcome."""
    match fault.name:
        case "reset" | "eof":
            await outlet.reset()
        case "hang":
            await outlet.hang()
            await outlet.reset()
        case "malformed":
            await exchange.send_json(MALFORMED, outlet)
        case _:
            await Refused(500, FAULT_MESSAGE, code=FAULT_CODE).send(exchange.send)
    return f"fault:{fault.name}"


def fault_error() -> dict[str, object]:
    """Return the error object of an injected failure."""
    return error_object(FAULT_MESSAGE, "server_error", FAULT_CODE)


def now_s() -> int:
    """Return the wall clock in whole seconds, as `created` wants it."""
    return int(time.time())
