"""The chaos harness' WebSocket client against a real gateway: it comes back behind its cursor, and sees all, once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from shared.log.log import Log
from tests.chaos.pipe import Balancer
from tests.chaos.records import Conn, Recorder, read_records
from tests.chaos.sockets import SocketViewer
from tests.chaos.viewers import Client, Habits
from tests.support.gateway import LiveGateway, running

START = b'{"type":"text-start","id":"t0"}'
WITHIN_S = 20


async def test_a_recording_socket_client_sees_every_entry_once_over_many_sockets(
    gateway: LiveGateway, client: httpx.AsyncClient, log: Log, tmp_path: Path
) -> None:
    writer = await running(client, log)
    await writer.append(START)
    await writer.say(*(f"word {number}" for number in range(60)))
    balancer = Balancer()
    await balancer.open()
    balancer.endpoints = [("gateway-1", ("127.0.0.1", urlsplit(gateway.url).port or 0))]
    recorder = Recorder(tmp_path / "history.jsonl")
    habits = Habits(cut=0.8, most_bytes=400, pause_s=(0.0, 0.01))
    viewer = SocketViewer(Client(balancer, recorder, random.Random(3)), "v", "c", "m", habits)
    async with asyncio.timeout(WITHIN_S):
        watching = asyncio.create_task(viewer.run())
        for number in range(20):
            await writer.say(f"late {number}")
        await writer.finish()
        await watching
    recorder.close()
    await balancer.close()
    conns = [record for record in read_records(tmp_path / "history.jsonl") if isinstance(record, Conn)]
    seen = [(ident, data) for conn in conns for _, ident, data in conn.events]
    assert seen == [(str(entry.cursor), entry.raw.decode()) for entry in await log.read_all(writer.ref)]
    assert conns[-1].ended == "clean"
    assert len(conns) > 1
