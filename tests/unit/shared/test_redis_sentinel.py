"""The way to a primary through a Sentinel, be it one that asks for a password or one that has none."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from shared.errors import Unavailable
from shared.redis import command_link, connection_pool, resolver
from tests.support.ports import free_port
from tests.support.redis import server_binaries
from tests.support.redis_process import RedisProcess
from tests.support.wait import wait_until
from tests.unit.shared.conftest import BINARIES

PASSWORD = "a-password-of-the-tests"


async def by_link(url: str) -> None:
    link = command_link(url, name="test")
    try:
        await link.open(wait_s=5)
        assert await link.call("PING") == b"PONG"
    finally:
        await link.close()


async def by_pool(url: str) -> None:
    pool = connection_pool(url)
    try:
        await pool.release(await pool.get_connection())
    finally:
        await pool.disconnect()


@asynccontextmanager
async def sentinel(binary: str, primary: int, folder: Path, more: str) -> AsyncIterator[int]:
    """Run one that watches the primary at that port; yield its own port."""
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor main 127.0.0.1 {primary} 1\n"
        f"sentinel auth-pass main {PASSWORD}\n{more}"
    )
    process = await asyncio.create_subprocess_exec(binary, str(config), "--sentinel", stdout=DEVNULL)
    try:
        await wait_until(lambda: _answers(port), what="the Sentinel does not answer")
        yield port
    finally:
        process.kill()
        await process.wait()


def _answers(port: int) -> bool:
    try:
        with Redis(port=port, socket_timeout=2) as client:
            client.ping()
    except RedisError as error:
        return "uthentication" in str(error)  # it asks for a password, so it is there
    return True


@pytest.fixture(params=BINARIES)
def primary(request: pytest.FixtureRequest) -> Iterator[RedisProcess]:
    server = RedisProcess(request.param or server_binaries()[0])
    server.start()
    try:
        with server.admin() as client:
            client.config_set("requirepass", PASSWORD)
        yield server
    finally:
        server.close()


async def test_a_pool_that_is_let_go_leaves_no_connection_to_a_sentinel(primary: RedisProcess, tmp_path: Path) -> None:
    """The worker makes a new pool for each poll that failed, so one a second while Redis is away."""
    async with sentinel(primary.binary, primary.port, tmp_path, "") as port:
        with Redis(port=port, socket_timeout=2) as admin:

            def others() -> int:
                return int(admin.info("clients")["connected_clients"]) - 1

            await wait_until(lambda: others() == 0)
            pool = connection_pool(f"sentinel://:{PASSWORD}@127.0.0.1:{port}/main")
            await pool.release(await pool.get_connection())
            assert others() == 1
            await pool.disconnect()
            await wait_until(lambda: others() == 0, what="the Sentinel has a client that is nobody's")


@pytest.mark.parametrize("connect", [by_link, by_pool])
@pytest.mark.parametrize("asks", [f"requirepass {PASSWORD}\n", ""], ids=["asks for it", "has none"])
async def test_a_sentinel_is_told_the_password_of_the_url(
    primary: RedisProcess, connect: Callable[[str], Awaitable[None]], asks: str, tmp_path: Path
) -> None:
    async with sentinel(primary.binary, primary.port, tmp_path, asks) as port:
        await connect(f"sentinel://:{PASSWORD}@127.0.0.1:{port}/main")


async def test_a_sentinel_that_wants_another_password_says_so(primary: RedisProcess, tmp_path: Path) -> None:
    async with sentinel(primary.binary, primary.port, tmp_path, "requirepass another\n") as port:
        with pytest.raises(Unavailable, match="Authentication required"):
            await resolver(f"sentinel://:{PASSWORD}@127.0.0.1:{port}/main")()
