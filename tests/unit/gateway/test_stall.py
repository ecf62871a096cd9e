"""Who is cut off: a peer that takes nothing, never one that takes little."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from gateway.live.transport import taken_by
from tests.support.wait import wait_until
from tests.support.writer import LogWriter
from tests.unit.gateway.conftest import Gallery


async def test_only_time_without_a_byte_taken_counts(gallery: Gallery, writer: LogWriter) -> None:
    await writer.start()
    watching = await gallery.watch(writer.ref)
    await watching.sink.until(lambda: "text-start" in watching.sink.text)
    now = asyncio.get_running_loop().time() + 1000  # beyond any at which the ticker may look meanwhile
    assert watching.viewer.stuck(now) == 0.0
    watching.sink.open_gate.clear()
    await writer.say("one")
    await wait_until(lambda: watching.viewer._sending)
    watching.sink.taken += 1
    assert watching.viewer.stuck(now) == 0.0
    assert watching.viewer.stuck(now + 20) == 20.0
    watching.sink.taken += 1
    assert watching.viewer.stuck(now + 30) == 0.0
    assert watching.viewer.stuck(now + 31) == 1.0


@pytest.mark.parametrize("mebibytes", [1, 8])
def test_what_a_peer_takes_shows_although_more_waits(mebibytes: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the gateway's
        runner.run(_taken_by_a_peer(mebibytes))


async def _taken_by_a_peer(mebibytes: int) -> None:
    server, client = socket.create_server(("127.0.0.1", 0)), socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(server.getsockname())
    accepted, _ = server.accept()
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()

    class Peer(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            closed.set()

    transport, _ = await loop.connect_accepted_socket(Peer, accepted)
    try:
        transport.write(b"x" * (mebibytes << 20))
        client.setblocking(False)
        await loop.sock_recv(client, 1024)
        before = taken_by(transport)
        got = 0
        while got < 500_000:
            got += len(await asyncio.wait_for(loop.sock_recv(client, 65_536), 5))
        await wait_until(lambda: taken_by(transport) > before)
        transport.abort()
        await closed.wait()
        assert taken_by(transport) <= 0  # whoever looks a moment late is not told of it by an exception
    finally:
        transport.abort()
        client.close()
        server.close()
