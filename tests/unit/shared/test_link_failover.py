"""A link whose primary is one no more: the new one is found, and nobody storms the old one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from shared.errors import Unavailable
from shared.link import Link, Target
from shared.log.replicas import ReplicaWait
from shared.redis import resolver
from tests.support.redis import RedisServer
from tests.support.wait import wait_until
from tests.unit.shared.conftest import BINARIES, WRITE, Open, Start


@contextlib.asynccontextmanager
async def demoted(start_redis: Start, binary: str | None) -> AsyncIterator[tuple[Link, RedisServer]]:
    """A link whose master has just become a replica, after it wrote "1" there; and the new master."""
    old, new = start_redis(binary=binary), start_redis(binary=binary)
    masters = [old.url]

    async def resolve() -> Target:
        return await resolver(masters[-1])()

    link = Link(resolve, name="failover")
    await link.open(wait_s=5)
    try:
        await link.script(WRITE, ("a",), ("1",), deadline_s=5)
        with old.admin() as client:
            client.replicaof("127.0.0.1", "1")
        masters.append(new.url)
        yield link, new
    finally:
        await link.close()


async def test_a_demoted_master_is_left_for_the_new_one(start_redis: Start) -> None:
    for binary in BINARIES:
        async with demoted(start_redis, binary) as (link, new):
            assert await link.script(WRITE, ("a",), ("2",), deadline_s=10) == b"OK"
            assert await link.call("GET", "a") == b"2"
            with new.admin() as client:
                assert client.get("a") == b"2"


async def test_a_wait_that_finds_its_master_demoted_is_unavailable_and_the_write_finds_the_new_one(
    start_redis: Start,
) -> None:
    for binary in BINARIES:
        async with demoted(start_redis, binary) as (link, new):
            with pytest.raises(Unavailable):
                await ReplicaWait(link, 1)("a")
            assert await link.script(WRITE, ("a",), ("1",), deadline_s=10) == b"OK"
            with new.admin() as client:
                assert client.get("a") == b"1"


async def test_a_wait_that_loses_its_connection_is_unavailable_for_another_one_has_not_written(
    start_redis: Start,
) -> None:
    old, new = start_redis(), start_redis()
    masters = [old.url]

    async def resolve() -> Target:
        return await resolver(masters[-1])()

    link = Link(resolve, name="failover")
    await link.open(wait_s=5)
    replicas = ReplicaWait(link, 1)
    await link.script(WRITE, ("a",), ("1",), deadline_s=5)
    await asyncio.to_thread(old.pause)  # so that no WAIT is answered by it
    sent = link.stats.commands
    waiting = [asyncio.create_task(replicas("a")) for _ in range(3)]
    await wait_until(lambda: link.stats.commands > sent)
    masters.append(new.url)
    await asyncio.to_thread(old.kill)
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in told] == [Unavailable] * 3
    assert await link.call("GET", "a") is None
    await link.script(WRITE, ("a",), ("1",), deadline_s=5)
    await replicas("a")
    await link.close()


async def test_an_address_that_leads_to_a_demoted_primary_is_not_stormed(start_redis: Start, open_link: Open) -> None:
    """A managed service's name does so for some seconds after a failover."""
    server = start_redis()
    link = await open_link(server.url)
    with server.admin() as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        calls = (link.call("SET", f"k{n}", "v", deadline_s=2.0) for n in range(50))
        assert {type(said) for said in await asyncio.gather(*calls, return_exceptions=True)} == {Unavailable}
        assert 3 <= link.stats.connects <= 15
        waiting = asyncio.create_task(link.call("SET", "k", "v"))
        admin.execute_command("REPLICAOF", "NO", "ONE")
        assert await waiting == b"OK"
