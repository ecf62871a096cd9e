"""The link against real servers that are killed, frozen, demoted, full and slow."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from shared.errors import StorageFull, Unavailable
from shared.link import PING, Link, ReplyError, Target
from shared.pipeline import ErrorReply, Lost, Pipeline
from shared.redis import parse_url, resolver
from tests.support.fault_proxy import FaultProxy
from tests.support.redis import server_binaries
from tests.support.wait import wait_until
from tests.unit.shared.conftest import BINARIES, WRITE, Open, Start


async def test_replies_come_in_the_order_of_the_calls(link: Link) -> None:
    replies = await asyncio.gather(*(link.call("ECHO", str(n)) for n in range(2000)))
    assert replies == [str(n).encode() for n in range(2000)]


async def test_arguments_of_every_kind_pass_unchanged(link: Link) -> None:
    await link.call("SET", "key", b"\x00\xff\r\n")
    assert await link.call("GET", b"key") == b"\x00\xff\r\n"
    await link.call("SET", "schlüssel", 17)
    assert await link.call("GET", "schlüssel".encode()) == b"17"
    assert await link.call("GET", "nothing") is None
    assert await link.script("return {false, 1, ARGV[1], {}}", ("k",), ("💬",), deadline_s=5) == [
        None, 1, "💬".encode(), [],
    ]  # fmt: skip


async def test_a_large_reply_and_a_large_command(link: Link) -> None:
    value = bytes(range(256)) * 40_000
    await link.call("SET", "key", value)
    assert await link.call("GET", "key") == value


async def test_a_script_is_loaded_where_redis_does_not_know_it(link: Link) -> None:
    assert await link.script(WRITE, ("a",), ("1",), deadline_s=5) == b"OK"
    commands = link.stats.commands
    assert await link.script(WRITE, ("a",), ("2",), deadline_s=5) == b"OK"
    assert link.stats.commands == commands + 1
    await link.call("SCRIPT", "FLUSH")
    assert await link.script(WRITE, ("a",), ("3",), deadline_s=5) == b"OK"
    assert await link.call("GET", "a") == b"3"


async def test_an_error_reply_is_the_callers_alone(link: Link) -> None:
    await link.call("SET", "key", "text")
    calls = [link.call("GET", "key"), link.call("XLEN", "key"), link.call("ECHO", "x")]
    replies: list[object] = await asyncio.gather(*calls, return_exceptions=True)
    assert (replies[0], replies[2]) == (b"text", b"x")
    assert isinstance(replies[1], ReplyError)
    assert "WRONGTYPE" in str(replies[1])
    with pytest.raises(ReplyError):
        await link.script("return redis.call('XLEN', KEYS[1])", ("key",), (), deadline_s=5)
    assert link.stats.losses == 0


@pytest.mark.parametrize("binary", BINARIES)
async def test_a_server_that_has_no_room_for_the_connection_is_heard_before_anything_is_asked(
    start_redis: Start, binary: str | None
) -> None:
    """It says so unasked and hangs up, often before the first command has left; in protected mode too."""
    server = start_redis(binary=binary)
    host, port = parse_url(server.url).hosts[0]
    broken: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: broken.append(context))
    with server.admin() as other:
        await asyncio.to_thread(other.config_set, "maxclients", 1)
        _, pipeline = await loop.create_connection(lambda: Pipeline(None, None), host, port)
        async with asyncio.timeout(5):
            await pipeline.lost
        with pytest.raises(Lost, match="max number of clients"):
            await pipeline.call(PING)
    assert broken == []


async def test_an_outage_is_said_once_and_then_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Each process has four links, and each tries to connect more than once a second: for hours, in all of a fleet."""
    tries = 0

    async def nowhere() -> Target:
        nonlocal tries
        tries += 1
        raise OSError("refused" if tries < 8 else "no such name")

    link = Link(nowhere, name="test")
    await link.open()
    try:
        await wait_until(lambda: tries == 10)
    finally:
        await link.close()
    reasons = [vars(record)["reason"] for record in caplog.records if record.message == "redis link down"]
    assert reasons == ["OSError('refused')", "OSError('no such name')"]


async def test_a_command_that_failed_is_not_kept_by_its_own_error(link: Link) -> None:
    """It may be large, and there may be many while Redis is full or away: none waits for the garbage collector."""
    await link.call("SET", "key", "text")
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with contextlib.suppress(ReplyError):
                await link.call("XLEN", "key")
        with contextlib.suppress(ReplyError):
            await link.script("return redis.call('XLEN', KEYS[1])", ("key",), (), deadline_s=5)
        await asyncio.sleep(0)  # the turn of the loop that the last reply has brought knows it
        assert not [kept for kept in gc.get_objects() if isinstance(kept, ErrorReply)]
    finally:
        gc.enable()


async def test_a_cancelled_call_does_not_shift_the_replies_of_others(link: Link) -> None:
    calls = [asyncio.create_task(link.call("ECHO", str(n))) for n in range(100)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(reply, asyncio.CancelledError) for reply in done[::2])
    assert done[1::2] == [str(n).encode() for n in range(1, 100, 2)]
    assert await link.call("ECHO", "after") == b"after"


async def test_calls_survive_a_killed_connection(link: Link) -> None:
    me = await link.call("CLIENT", "ID")
    cut = asyncio.create_task(link.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"))
    replies = await asyncio.gather(*(link.call("SET", f"k{n}", n) for n in range(50)))
    cut.cancel()
    assert replies == [b"OK"] * 50
    assert await link.call("CLIENT", "ID") != me
    assert link.stats.connects >= 2


async def test_a_call_waits_for_a_redis_that_comes_back(start_redis: Start, open_link: Open) -> None:
    server = start_redis(args=["--appendonly", "yes", "--appendfsync", "always"])
    link = await open_link(server.url)
    await link.call("SET", "a", "1")
    await asyncio.to_thread(server.kill)
    waiting = asyncio.create_task(link.call("GET", "a", deadline_s=10))
    await wait_until(lambda: not link.up)
    await asyncio.to_thread(server.restart, keep_data=True)
    assert await waiting == b"1"


async def test_without_redis_a_call_is_unavailable_at_its_deadline(start_redis: Start, open_link: Open) -> None:
    server = start_redis()
    link = await open_link(server.url)
    await asyncio.to_thread(server.kill)
    with pytest.raises(Unavailable):
        await link.call("PING", deadline_s=0.2)
    with pytest.raises(Unavailable):
        await open_link(server.url, wait_s=0.1)


async def test_a_frozen_redis_is_unavailable_and_then_serves_again(start_redis: Start, open_link: Open) -> None:
    server = start_redis()
    link = await open_link(server.url)
    server.pause()
    with pytest.raises(Unavailable):
        await link.call("PING", deadline_s=0.2)
    server.resume()
    assert await link.call("PING") == b"PONG"


async def test_one_callers_short_deadline_does_not_cut_off_the_others(start_redis: Start, open_link: Open) -> None:
    server = start_redis()
    link = await open_link(server.url)
    server.pause()
    patient = asyncio.create_task(link.call("ECHO", "patient", deadline_s=10))
    with pytest.raises(Unavailable):
        await link.call("PING", deadline_s=0.1)
    server.resume()
    assert await patient == b"patient"
    assert (link.stats.connects, link.stats.losses) == (1, 0)


async def test_a_connection_that_stays_silent_is_given_up(start_redis: Start, open_link: Open) -> None:
    server = start_redis()
    link = await open_link(server.url)
    server.pause()
    with pytest.raises(Unavailable):
        await link.call("PING", deadline_s=1.2)
    await wait_until(lambda: link.stats.losses == 1)
    server.resume()
    assert await link.call("PING") == b"PONG"


async def test_a_busy_redis_is_waited_for(start_redis: Start, open_link: Open) -> None:
    server = start_redis(args=["--lua-time-limit", "1"])
    link, other = await open_link(server.url), await open_link(server.url)
    busy = asyncio.create_task(other.script("while true do end", ("k",), (), deadline_s=10))

    async def said_busy() -> bool:
        with contextlib.suppress(Unavailable):
            await link.call("PING", deadline_s=0.1)
            return False
        return True

    await wait_until(said_busy)
    waiting = asyncio.create_task(link.call("ECHO", "x", deadline_s=10))
    await link.call("SCRIPT", "KILL")
    assert await waiting == b"x"
    with pytest.raises(ReplyError):
        await busy


async def test_out_of_memory_is_storage_full(start_redis: Start, open_link: Open) -> None:
    for binary in BINARIES:
        link = await open_link(start_redis(binary=binary, args=["--maxmemory", "1"]).url)
        with pytest.raises(StorageFull):
            await link.call("SET", "a", "1")
        with pytest.raises(StorageFull):
            await link.script(WRITE, ("a",), ("1",), deadline_s=5)
        assert await link.call("GET", "a") is None


async def test_a_link_introduces_itself(start_redis: Start, open_link: Open) -> None:
    server = start_redis()
    with server.admin() as client:
        client.config_set("requirepass", "s3cret:/@")
    port = server.url.rsplit(":", 1)[1].removesuffix("/0")
    link = await open_link(f"redis://:s3cret%3A%2F%40@127.0.0.1:{port}/3")
    await link.call("SET", "a", "1")
    assert b"keys=1" in await link.call("INFO", "keyspace")
    assert b"db3" in await link.call("INFO", "keyspace")
    for wrong in ("redis://:wrong@", "redis://"):
        with pytest.raises(Unavailable):
            await open_link(f"{wrong}127.0.0.1:{port}/0", wait_s=0.3)


async def test_a_unix_socket(start_redis: Start, open_link: Open, tmp_path_factory: pytest.TempPathFactory) -> None:
    binaries = server_binaries()
    if not binaries:
        pytest.skip("a container's socket is not reachable from here")
    path = tmp_path_factory.mktemp("s") / "r"
    start_redis(binary=binaries[0], args=["--unixsocket", str(path)])
    link = await open_link(f"unix://{path}?db=2")
    assert await link.call("PING") == b"PONG"
    await link.call("SET", "a", "1")
    assert b"db2" in await link.call("INFO", "keyspace")


async def test_a_half_open_connection_of_subscriptions_is_found(
    redis_url: str, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.link.PING_EVERY_S", 0.05)
    heard: list[list[Any]] = []
    port = urlsplit(redis_url).port
    assert port is not None
    async with FaultProxy([("127.0.0.1", port)]) as proxy:
        listener = Link(
            resolver(f"redis://127.0.0.1:{proxy.port}"),
            name="half",
            on_push=heard.append,
            on_up=lambda: listener.post("SUBSCRIBE", "channel"),
            reply_timeout_s=1.0,
        )
        await listener.open(wait_s=5)
        await wait_until(lambda: heard)
        await wait_until(lambda: listener.stats.commands > 2)
        assert (listener.stats.connects, len(heard)) == (1, 1)  # answers to PING are no pushes
        proxy.cut("silence")
        await wait_until(lambda: len(heard) == 2)
        await link.call("PUBLISH", "channel", "x")
        await wait_until(lambda: heard[2:] == [[b"message", b"channel", b"x"]])
        assert (listener.stats.connects, listener.stats.losses) == (2, 1)
        await listener.close()


async def test_a_link_whose_owner_asks_does_not_ask_too(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[Any] = []
    listener = Link(resolver(redis_url), name="asked", on_push=print)

    async def wait(*_: Any, **__: Any) -> None:
        """One interval passes, in which the owner asks; the fourth has no end."""
        waits.append(await listener.call("PING"))
        if len(waits) > 3:
            await asyncio.Event().wait()

    monkeypatch.setattr("shared.link.asyncio", SimpleNamespace(**{**vars(asyncio), "wait": wait}))
    await listener.open(wait_s=5)
    await wait_until(lambda: len(waits) > 3)
    assert listener.stats.commands == len(waits)
    await listener.close()


async def test_a_link_outlives_what_is_no_cluster_at_its_address(redis_url: str) -> None:
    place = resolver(redis_url)
    asked: list[Callable[[], Awaitable[Target]]] = []
    answers = iter([resolver(redis_url.replace("redis://", "cluster://").removesuffix("/0"))] * 2)

    async def resolve() -> Target:
        asked.append(next(answers, place))
        return await asked[-1]()

    link = Link(resolve, name="patient", on_push=print)
    await link.open(wait_s=5)
    await link.close()
    assert asked[2:] == [place]


async def test_subscriptions_are_made_again_by_on_up(redis_url: str, link: Link) -> None:
    pushes: list[list[Any]] = []
    ups: list[int] = []

    def on_up() -> None:
        ups.append(1)
        listener.post("SUBSCRIBE", "channel")

    listener = Link(resolver(redis_url), name="sub", on_push=pushes.append, on_up=on_up)
    await listener.open(wait_s=5)
    try:
        assert await wait_until(lambda: pushes) == [[b"subscribe", b"channel", 1]]
        await link.call("CLIENT", "KILL", "TYPE", "pubsub")
        await wait_until(lambda: len(pushes) == 2)
        await link.call("PUBLISH", "channel", "x")
        assert (await wait_until(lambda: pushes[2:]))[0] == [b"message", b"channel", b"x"]
        assert (len(ups), len(pushes)) == (2, 3)
    finally:
        await listener.close()


async def test_a_post_without_a_connection_does_nothing(start_redis: Start, open_link: Open) -> None:
    server = start_redis()
    link = await open_link(server.url)
    await asyncio.to_thread(server.kill)
    await wait_until(lambda: not link.up)
    link.post("SUBSCRIBE", "x")
    assert not link.up


async def test_after_close_nothing_is_answered(redis_url: str) -> None:
    link = Link(resolver(redis_url), name="closed")
    await link.open(wait_s=5)
    await link.close()
    await link.close()
    with pytest.raises(Unavailable):
        await link.call("PING", deadline_s=0.1)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "link-closed"]


async def test_a_cancelled_close_stays_cancelled(redis_url: str) -> None:
    link = Link(resolver(redis_url), name="closing")
    await link.open(wait_s=5)
    closing = asyncio.create_task(link.close())
    await asyncio.sleep(0)  # it has begun
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing


async def test_a_redis_that_cannot_write_to_its_disk_is_waited_for(start_redis: Start, open_link: Open) -> None:
    link = await open_link(start_redis(args=["--dir", "/proc"]).url)
    await link.call("SET", "a", "0")
    await link.call("CONFIG", "SET", "save", "3600 1")
    await link.call("BGSAVE")

    async def broken() -> bool:
        return b"rdb_last_bgsave_status:err" in await link.call("INFO", "persistence")

    await wait_until(broken, what="a save that failed")
    with pytest.raises(Unavailable):
        await link.call("SET", "a", "1", deadline_s=0.2)
    with pytest.raises(Unavailable):
        await link.script(WRITE, ("a",), ("1",), deadline_s=0.2)
    waiting = asyncio.create_task(link.call("SET", "a", "2", deadline_s=10))
    await link.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
    assert await waiting == b"OK"
