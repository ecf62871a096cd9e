"""Owns the fleet's Redis servers: a primary and a replica that change places, the Sentinel that says so, a queue.

Real servers with AOF on loopback ports. The log's address moves when Sentinel says that it has; whoever reaches it
through pipes is led there, as by a service address.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

from tests.support.ports import free_port
from tests.support.redis_process import RedisProcess

MASTER = "log"
_DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec", "--repl-diskless-sync-delay", "0")
_NEVER_MS = 600_000


class Sentinel:
    """One Sentinel that watches the log's primary. Its methods block for some milliseconds."""

    def __init__(self, binary: str, port: int, *, down_after_ms: int) -> None:
        self.port = free_port()
        self._down_after_ms = down_after_ms
        self._folder = Path(tempfile.mkdtemp(prefix="tailrace-sentinel-"))
        config = self._folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\nlogfile {self._folder / 'log'}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} {down_after_ms}\n"
            f"sentinel failover-timeout {MASTER} 3000\n"
        )
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        self._process = subprocess.Popen(
            [*guard, binary, str(config), "--sentinel"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def master(self) -> int | None:
        """Return the port of the master as Sentinel sees it."""
        with suppress(redis.RedisError), self._client() as client:
            address = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
            return int(address[1]) if address else None
        return None

    def replicas(self) -> list[dict[str, str]]:
        """Return what it knows of the replicas."""
        with suppress(redis.RedisError), self._client() as client:
            return [_pairs(item) for item in client.execute_command("SENTINEL", "REPLICAS", MASTER)]
        return []

    def patient(self, patient: bool) -> None:
        """Have it overlook that the master is down, or not."""
        down_after = _NEVER_MS if patient else self._down_after_ms
        with self._client() as client:
            client.execute_command("SENTINEL", "SET", MASTER, "down-after-milliseconds", down_after)

    def log(self) -> str:
        """Return what it wrote."""
        path = self._folder / "log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _client(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=2)


def _pairs(flat: Any) -> dict[str, str]:
    if isinstance(flat, dict):
        return {str(key): str(value) for key, value in flat.items()}
    texts = [item.decode() if isinstance(item, bytes) else str(item) for item in flat]
    return dict(zip(texts[::2], texts[1::2], strict=False))


class Stores:
    """The log's pair and its Sentinel, and the queue's server. `on_move` is called when the primary has changed."""

    def __init__(self, *, down_after_ms: int = 700) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise RuntimeError("the chaos harness needs redis-server on PATH (it runs a Sentinel)")
        self._binary = binary
        self._down_after_ms = down_after_ms
        self.servers = {"redis-a": RedisProcess(binary, _DURABLE), "redis-b": RedisProcess(binary, _DURABLE)}
        self.queue = RedisProcess(binary)
        self.primary = "redis-a"
        self.sentinel: Sentinel | None = None
        self.on_move: Callable[[], None] = lambda: None
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start everything and wait until Sentinel knows the replica."""
        first, second = self.servers["redis-a"], self.servers["redis-b"]
        await asyncio.to_thread(first.start)
        await asyncio.to_thread(second.start, "--replicaof", "127.0.0.1", str(first.port))
        await asyncio.to_thread(self.queue.start)
        await self.synced()
        self.sentinel = await asyncio.to_thread(Sentinel, self._binary, first.port, down_after_ms=self._down_after_ms)
        await _until(lambda: bool(self.sentinel and self.sentinel.replicas()), 20, "Sentinel sees the replica")
        # On a busy machine a server may be silent for longer than that: Sentinel acts when we have it act.
        await asyncio.to_thread(self.sentinel.patient, True)
        self._watching = asyncio.create_task(self._watch(), name="sentinel-watch")

    async def close(self) -> None:
        """End everything."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self.sentinel is not None:
            await asyncio.to_thread(self.sentinel.close)
        for server in (*self.servers.values(), self.queue):
            await asyncio.to_thread(server.close)

    @property
    def replica(self) -> str:
        return "redis-b" if self.primary == "redis-a" else "redis-a"

    def address(self) -> tuple[str, int]:
        """Where the log's primary is."""
        return "127.0.0.1", self.servers[self.primary].port

    def queue_address(self) -> tuple[str, int]:
        return "127.0.0.1", self.queue.port

    def client(self, name: str = "") -> redis.asyncio.Redis:
        """Return a client of one of the log's servers, the primary by default."""
        port = self.servers[name or self.primary].port
        return redis.asyncio.Redis(host="127.0.0.1", port=port, socket_timeout=5, decode_responses=True)

    async def synced(self, within_s: float = 15.0) -> None:
        """Wait until the replica follows the primary, up to date."""

        async def look() -> bool:
            try:
                async with self.client() as primary:
                    info = await primary.info("replication")
                slave = info.get("slave0") or {}
                return bool(slave.get("state") == "online" and slave.get("lag", 9) <= 1)
            except redis.RedisError:
                return False

        await _until(look, within_s, "the replica follows")

    async def bounce(self, down_s: float) -> None:
        """Kill the primary and start it again with what it has on disk, without a failover."""
        server = self.servers[self.primary]
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(down_s)
        await asyncio.to_thread(server.start)
        await self.synced()

    async def wipe(self, down_s: float) -> tuple[float, float]:
        """Kill both servers and start them again with nothing; return when the primary died and when it was back."""
        primary, replica = self.servers[self.primary], self.servers[self.replica]
        await asyncio.to_thread(replica.kill)
        await asyncio.to_thread(primary.kill)
        killed = time.time()
        await asyncio.sleep(down_s)
        await asyncio.to_thread(primary.restart, keep_data=False)
        back = time.time()
        await asyncio.to_thread(replica.restart, keep_data=False)
        await self.synced()
        return killed, back

    async def fail_over(self, lag_s: float, at_cut: Callable[[], None] = lambda: None) -> tuple[float, float, float]:
        """Cut replication, wait `lag_s`, kill the primary and let Sentinel promote the replica.

        `at_cut` is called at the kill. Return from when to when writes were acknowledged that are lost, and when the
        heir had taken over. The old primary comes back as the replica.
        """
        old, heir = self.primary, self.replica
        began = time.time()
        async with self.client(heir) as client:
            await client.slaveof("127.0.0.1", 1)  # nobody there: the link is down
        await asyncio.sleep(lag_s)
        assert self.sentinel is not None
        at_cut()
        await asyncio.to_thread(self.servers[old].kill)
        ended = time.time()
        await asyncio.to_thread(self.sentinel.patient, False)
        await _until(lambda: self.primary == heir, 30, "Sentinel has promoted the replica")
        back = time.time()
        await asyncio.to_thread(self.sentinel.patient, True)
        heir_port = str(self.servers[heir].port)
        await asyncio.to_thread(self.servers[old].start, "--replicaof", "127.0.0.1", heir_port)
        await self.synced()
        return began, ended, back

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            assert self.sentinel is not None
            port = await asyncio.to_thread(self.sentinel.master)
            for name, server in self.servers.items():
                if server.port == port and name != self.primary and await self._is_master(name):
                    self.primary = name
                    self.on_move()

    async def _is_master(self, name: str) -> bool:
        try:
            async with self.client(name) as client:
                return bool((await client.info("replication"))["role"] == "master")
        except redis.RedisError:
            return False


async def _until(condition: Callable[[], Any], within_s: float, what: str) -> None:
    end = time.monotonic() + within_s
    while True:
        said = condition()
        if asyncio.iscoroutine(said):
            said = await said
        if said:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {within_s:g} s")
        await asyncio.sleep(0.05)
