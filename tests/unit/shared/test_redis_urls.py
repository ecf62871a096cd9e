"""Redis URLs, and the servers that are refused at boot."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import shared.redis
from shared.errors import Unavailable, UnsafeRedis
from shared.link import Link
from shared.redis import (
    RedisUrl,
    TlsFiles,
    check_queue,
    check_redis,
    command_link,
    connection_pool,
    is_cluster,
    parse_url,
    resolver,
)
from tests.support.redis import RedisServer


def url(**parts: object) -> RedisUrl:
    base: dict[str, object] = {
        "hosts": (("127.0.0.1", 6379),), "path": None, "service": None, "username": None, "password": None,
        "database": 0, "tls": None,
    }  # fmt: skip
    return RedisUrl(**{**base, **parts})  # type: ignore[arg-type]  # checked by comparison


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("redis://", url()),
        ("redis://localhost", url(hosts=(("localhost", 6379),))),
        ("redis://10.0.0.1:7000/2", url(hosts=(("10.0.0.1", 7000),), database=2)),
        ("redis://h?db=4", url(hosts=(("h", 6379),), database=4)),
        ("redis://:p%40ss%2F@h", url(hosts=(("h", 6379),), password="p@ss/")),
        ("redis://us%3Aer:pw@h", url(hosts=(("h", 6379),), username="us:er", password="pw")),
        ("rediss://h", url(hosts=(("h", 6379),), tls=TlsFiles())),
        (
            "rediss://h/1?ssl_ca_certs=%2Fca.pem&ssl_certfile=/c&ssl_keyfile=/k",
            url(hosts=(("h", 6379),), database=1, tls=TlsFiles("/ca.pem", "/c", "/k")),
        ),
        ("redis://[::1]:7000/1", url(hosts=(("::1", 7000),), database=1)),
        ("redis://[::1]", url(hosts=(("::1", 6379),))),
        ("unix:///run/redis.sock?db=3", url(path="/run/redis.sock", database=3)),
        ("unix://:pw@/run/redis.sock", url(path="/run/redis.sock", password="pw")),
        ("sentinel://a,b:7,c/main", url(hosts=(("a", 26379), ("b", 7), ("c", 26379)), service="main")),
        (
            "sentinel://u:p@a:1/main/5",
            url(hosts=(("a", 1),), service="main", username="u", password="p", database=5),
        ),
        ("cluster://a,b:7", url(hosts=(("a", 6379), ("b", 7)), cluster=True)),
        ("clusters://u:p@a/0", url(hosts=(("a", 6379),), username="u", password="p", tls=TlsFiles(), cluster=True)),
    ],
)
def test_a_url_is_read(text: str, parsed: RedisUrl) -> None:
    assert parse_url(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "", "localhost:6379", "http://h", "redis://h/x", "redis://h:port", "redis://h?db=x", "sentinel://a",
        "redis://h/1/2", "redis://h/-1", "redis://h:99999", "unix://", "redis://a,b",
        "rediss://h?ssl_cert_reqs=none", "redis://h?password=x", "redis://h?ssl_ca_certs=/ca.pem",
        "rediss://h?ssl_keyfile=/key.pem", "cluster://a/1", "cluster://a/x", "cluster://a:x", "cluster://a/0/0", "redis://[h/0",
    ],
)  # fmt: skip
def test_a_url_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Redis URL"):
        parse_url(text)


@pytest.mark.parametrize("place", ["h:port", "[h", "h\u2100"])
def test_no_error_shows_the_password(place: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as raised:
        parse_url(f"redis://user:s3cret@{place}/0")
    assert "s3cret" not in str(raised.value)


async def test_a_resolver_says_where_and_who() -> None:
    target = await resolver("rediss://u:p@h:7/3")()
    assert (target.address, target.username, target.password, target.database) == (("h", 7), "u", "p", 3)
    assert target.tls is not None
    assert (await resolver("unix:///s")()).address == "/s"


def test_a_cluster_is_told_from_its_url() -> None:
    assert [is_cluster(text) for text in ("cluster://a", "clusters://a", "redis://cluster", "sentinel://a/b", "")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_the_queue_has_no_pool_on_a_cluster() -> None:
    with pytest.raises(ValueError, match="queue"):
        connection_pool("cluster://a")


async def test_without_a_node_a_cluster_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await resolver("cluster://127.0.0.1:1,127.0.0.1:2")()
    link = command_link("cluster://127.0.0.1:1", name="nobody")
    try:
        with pytest.raises(Unavailable):
            await link.open(wait_s=0.3)
        with pytest.raises(Unavailable):
            await link.call("PING", deadline_s=0.1)
        assert not link.up
    finally:
        await link.close()


async def test_without_a_sentinel_the_master_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await resolver("sentinel://127.0.0.1:1/main")()


async def test_a_redis_that_evicts_is_refused(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis()
    link = Link(resolver(server.url), name="check")
    await link.open(wait_s=5)
    try:
        await check_redis(link)
        policies = ("volatile-lru", "allkeys-lru", "volatile-ttl", "allkeys-random", "volatile-lfu")
        for policy in policies:
            await link.call("CONFIG", "SET", "maxmemory-policy", policy)
            with pytest.raises(UnsafeRedis, match=policy):
                await check_redis(link)
    finally:
        await link.close()


async def test_a_redis_older_than_the_floor_is_refused(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    await check_redis(link)
    monkeypatch.setattr(shared.redis, "OLDEST_REDIS", (99, 0))
    for check in (check_redis, check_queue):
        with pytest.raises(UnsafeRedis, match="too old"):
            await check(link)


async def test_a_server_that_is_no_cluster_is_refused(redis_url: str) -> None:
    link = command_link(redis_url.replace("redis://", "cluster://"), name="none")
    try:
        with pytest.raises(UnsafeRedis, match="is no cluster"):
            await link.open(wait_s=5)
    finally:
        await link.close()
