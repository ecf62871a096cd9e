"""The stream that answers a start: whatever goes wrong behind the start, the answer must not say "no such message"."""

from __future__ import annotations

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.routes.streams import StartedStream
from shared.errors import NotFound, StartUncertain, TailraceError, Unavailable


async def _receive() -> Message:
    return {"type": "http.disconnect"}


async def _send(message: Message) -> None:
    pass


@pytest.mark.parametrize("error", [Unavailable("away"), NotFound("a failover lost it right after its start")])
async def test_a_start_that_is_lost_before_its_stream_began_is_uncertain(error: TailraceError) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    with pytest.raises(StartUncertain):
        await StartedStream(inner)({"type": "http"}, _receive, _send)
