"""Stopping and deleting: from anywhere, as often as you like, and never called done before it is."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from shared.events import Upstream, encode_event
from shared.link import Link
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, running, started
from tests.support.log import cancel_jobs, run_out
from tests.support.writer import LogWriter


async def test_a_waiting_message_is_stopped_at_once(client: httpx.AsyncClient, log: Log) -> None:
    ref = await started(client)
    for _ in range(2):
        stopped = await client.post("/chats/c/messages/m/stop")
        assert (stopped.status_code, stopped.json()["state"]) == (200, "aborted")
    entries = await log.read_all(ref)
    assert [entry.is_end for entry in entries].count(True) == 1
    assert await log.active(ref.tenant, "c") is None


async def test_a_running_message_is_not_called_stopped_before_its_worker_says_so(
    client: httpx.AsyncClient, log: Log, make_gateway: MakeGateway
) -> None:
    writer = await running(client, log)
    async with make_gateway() as other, other.client() as on_other:
        for one in (client, on_other, client):
            stopping = await one.post("/chats/c/messages/m/stop")
            assert (stopping.status_code, stopping.json()["state"]) == (202, "stopping")
            assert (await one.get("/chats/c/messages/m")).json()["status"]["state"] == "running"
        reply = await log.append(writer.own, writer.seq + 1, (), lease_ms=8000, renew_ttl=False, deadline_s=5)
        assert reply.stop == "user"
        await writer.finish()
        stopped = await on_other.post("/chats/c/messages/m/stop")
    assert (stopped.status_code, stopped.json()["state"]) == (200, "done")


async def test_a_message_whose_worker_is_lost_is_stopped_at_once(
    client: httpx.AsyncClient, log: Log, link: Link
) -> None:
    writer = await running(client, log)
    await run_out(link, writer.ref)
    stopped = await client.post("/chats/c/messages/m/stop")
    assert (stopped.status_code, stopped.json()["state"]) == (200, "aborted")
    late = await log.append(writer.own, writer.seq + 1, [b"{}"], lease_ms=8000, renew_ttl=False, deadline_s=5)
    assert late.status in ("final", "fenced")


async def test_a_stop_without_an_owner_has_the_run_upstream_cancelled(
    client: httpx.AsyncClient, log: Log, link: Link
) -> None:
    writer = await running(client, log)
    await writer.append(encode_event(Upstream("run_1")))
    await run_out(link, writer.ref)
    await client.post("/chats/c/messages/m/stop")
    assert [job[:3:2] for job in await cancel_jobs(link)] == [[writer.ref.member, "run_1"]]


@pytest.mark.parametrize("ended", [False, True])
async def test_a_delete_has_a_run_that_goes_on_upstream_cancelled(
    client: httpx.AsyncClient, log: Log, link: Link, ended: bool
) -> None:
    writer = await running(client, log)
    await writer.append(encode_event(Upstream("run_1")))
    if ended:
        await writer.finish()
    assert (await client.delete("/chats/c/messages/m")).status_code == 204
    assert len(await cancel_jobs(link)) == int(not ended)


async def test_stops_from_everywhere_at_once_write_one_end(make_gateway: MakeGateway, log: Log) -> None:
    async with make_gateway() as a, make_gateway() as b, a.client() as on_a, b.client() as on_b:
        for n in range(20):
            ref = await started(on_a, f"c{n}")
            stops = [one.post(f"/chats/c{n}/messages/m/stop") for one in (on_a, on_b) * 4]
            answers = await asyncio.gather(*stops)
            assert {(answer.status_code, answer.json()["state"]) for answer in answers} == {(200, "aborted")}
            assert sum(entry.is_end for entry in await log.read_all(ref)) == 1


async def test_a_stop_and_a_claim_race_to_one_outcome(client: httpx.AsyncClient, log: Log) -> None:
    for n in range(30):
        ref = await started(client, f"c{n}")
        writer = LogWriter(log, ref)
        claim, stop = await asyncio.gather(
            writer.claim(), client.post(f"/chats/c{n}/messages/m/stop"), return_exceptions=True
        )
        assert isinstance(stop, httpx.Response)
        meta = await log.meta(ref)
        assert meta is not None
        if isinstance(claim, BaseException):  # refused: it was stopped first
            assert isinstance(claim, AssertionError)
            assert (stop.json()["state"], meta.state) == ("aborted", "aborted")
        else:
            assert (stop.json()["state"], meta.state, meta.stop) == ("stopping", "running", "user")


async def test_many_stops_in_any_state_leave_nothing_in_flight(client: httpx.AsyncClient, log: Log, link: Link) -> None:
    async def one(n: int) -> None:
        ref = await started(client, f"c{n}")
        if n % 3:
            writer = LogWriter(log, ref)
            await writer.claim()
            if n % 3 == 1:
                await writer.finish()
            else:
                await run_out(link, ref)
        stopped = await client.post(f"/chats/c{n}/messages/m/stop")
        assert stopped.json()["state"] == ("done" if n % 3 == 1 else "aborted")

    for at in range(0, 300, 30):
        await asyncio.gather(*(one(n) for n in range(at, at + 30)))
    keys = [key.decode() for key in await link.call("KEYS", "*")]
    assert [key for key in keys if key.endswith(("::active", "::live"))] == []
    assert (await client.get("/active")).json() == {"messages": []}


@pytest.mark.parametrize("state", ["queued", "running", "done"])
async def test_a_deleted_message_is_gone_for_everybody(client: httpx.AsyncClient, log: Log, state: str) -> None:
    ref = await started(client)
    writer = LogWriter(log, ref)
    if state != "queued":
        await writer.claim()
    if state == "done":
        await writer.finish()
    for _ in range(2):
        assert (await client.delete("/chats/c/messages/m")).status_code == 204
    assert (await client.get("/chats/c/messages/m")).status_code == 410
    assert (await client.post("/chats/c/messages/m/stop")).status_code == 410
    assert (await client.post("/chats/c/messages", json={**ASK, "message_id": "m"})).status_code == 410
    assert (await client.get("/chats/c")).json()["messages"] == []
    assert (await client.get("/active")).json()["messages"] == []
    assert await log.read_all(ref) == []
    assert (await client.delete("/chats/c/messages/other")).status_code == 404
