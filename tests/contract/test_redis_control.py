"""The servers that the other tests lean on: can they really be killed, frozen and restarted?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.redis import IMAGE, RedisServer
from tests.support.redis_container import why_no_engine


@pytest.mark.parametrize("kind", ["binary", pytest.param("docker", marks=pytest.mark.container)])
def test_a_test_can_kill_freeze_and_restart_its_server(
    start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "docker" and why_no_engine(IMAGE):
        pytest.skip(why_no_engine(IMAGE))
    monkeypatch.setenv("TEST_REDIS", kind)
    server = start_redis(args=["--appendonly", "yes", "--appendfsync", "always"])
    with server.admin() as client:
        client.set("a", "1")
    server.restart(keep_data=True)
    with server.admin() as client:
        assert client.get("a") == b"1"
    server.pause()
    server.resume()
    server.restart(keep_data=False)
    with server.admin() as client:
        assert client.get("a") is None
