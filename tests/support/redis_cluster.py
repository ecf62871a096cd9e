"""Owns a Redis Cluster for tests: local nodes, joined, with slots shared out evenly; nodes killed, slots moved.

The methods block; from an async test that must keep its event loop turning, call them through `asyncio.to_thread`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import redis

from shared.slots import SLOTS
from tests.support.redis import server_binaries, skip_or_fail
from tests.support.redis_process import RedisProcess, version_of

_READY_WITHIN_S = 20.0
NODE_TIMEOUT_MS = 1000
"""Replicas take over about a second after this."""


class RedisCluster:
    """`primaries` servers and, for the first ones of them, `replicas`. `args` go to every node."""

    def __init__(self, binary: str, *, primaries: int = 3, replicas: int = 0, args: tuple[str, ...] = ()) -> None:
        common = [
            *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
            *("--repl-diskless-sync-delay", "0", "--cluster-require-full-coverage", "no"),
            *args,
        ]
        self.nodes = [RedisProcess(binary, common) for _ in range(primaries + replicas)]
        self.primaries = self.nodes[:primaries]
        self.replicas = self.nodes[primaries:]

    @property
    def url(self) -> str:
        """How the services name it: two of its nodes are enough."""
        return f"cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes[:2])}"

    def start(self) -> None:
        """Start all nodes, join them, and wait until every one of them serves."""
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes):
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                ask(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        share = -(-SLOTS // len(self.primaries))
        for number, node in enumerate(self.primaries):
            ask(node, "CLUSTER", "ADDSLOTS", *range(number * share, min((number + 1) * share, SLOTS)))
        for node, primary in zip(self.replicas, self.primaries, strict=False):
            until(partial(_knows, node, primary))
            ask(node, "CLUSTER", "REPLICATE", node_id(primary))
        until(self._serves)

    def close(self) -> None:
        """End all nodes for good."""
        with ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.close)

    def flush(self) -> None:
        """Forget all keys."""
        for node in self.primaries:
            ask(node, "FLUSHALL")

    def owner(self, slot: int) -> RedisProcess:
        """Return the primary that says that it has the slot."""
        return next(node for node in self.primaries if node_id(node) == self._owner_id(slot))

    def begin_move(self, slot: int) -> Move:
        """Begin to move a slot to the next primary; no key has moved yet."""
        source = self.owner(slot)
        target = self.primaries[(self.primaries.index(source) + 1) % len(self.primaries)]
        ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
        return Move(slot, source, target, self.primaries)

    def _owner_id(self, slot: int) -> str:
        for first, last, owner, *_ in _slots(self.primaries[0]):
            if first <= slot <= last:
                return str(owner[2].decode())
        raise AssertionError(f"nobody has slot {slot}")

    def _serves(self) -> bool:
        covered = [sum(last - first + 1 for first, last, *_ in _slots(node)) for node in self.nodes]
        states = [ask(node, "CLUSTER", "INFO") for node in self.nodes]
        linked = all("master_link_status:up" in ask(node, "INFO", "replication").decode() for node in self.replicas)
        return set(covered) == {SLOTS} and all(b"cluster_state:ok" in state for state in states) and linked


class Move:
    """One slot on its way from `source` to `target`."""

    def __init__(self, slot: int, source: RedisProcess, target: RedisProcess, primaries: list[RedisProcess]) -> None:
        self.slot = slot
        self.source = source
        self.target = target
        self._primaries = primaries

    def move_keys(self) -> int:
        """Bring all keys over; return how many there were."""
        moved = 0
        while keys := ask(self.source, "CLUSTER", "GETKEYSINSLOT", self.slot, 100):
            ask(self.source, "MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        return moved

    def end(self) -> None:
        """Say that the slot is the target's: to the target first, as the cluster's manual wants it."""
        for node in (self.target, self.source, *self._primaries):
            ask(node, "CLUSTER", "SETSLOT", self.slot, "NODE", node_id(self.target))


def cluster_binaries() -> list[str | None]:
    """Return the server of each version that is here, as parameters of a fixture."""
    return [*server_binaries()] or [None]


def cluster_name(binary: str | None) -> str:
    """Return a parameter's name."""
    return f"redis-{version_of(binary)[0]}" if binary else "none"


@contextmanager
def running_cluster(binary: str | None, **how: Any) -> Iterator[RedisCluster]:
    """Run a cluster; skips without a binary."""
    if binary is None:
        skip_or_fail("a cluster needs a server binary: containers do not see each other's loopback")
    cluster = RedisCluster(binary, **how)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def ask(node: RedisProcess, *args: Any) -> Any:
    """Send a command to one node; the reply as it comes."""
    with node.admin() as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*args)
            return connection.read_response()
        finally:
            client.connection_pool.release(connection)


def node_id(node: RedisProcess) -> str:
    """Return the id by which the other nodes know it."""
    return str(ask(node, "CLUSTER", "MYID").decode())


def until(condition: Callable[[], object], within_s: float = _READY_WITHIN_S) -> None:
    """Block until the condition holds."""
    end = time.monotonic() + within_s
    while True:
        try:
            if condition():
                return
        except redis.ConnectionError:
            pass
        if time.monotonic() > end:
            raise TimeoutError("the cluster does not get there")
        time.sleep(0.02)


def _knows(node: RedisProcess, other: RedisProcess) -> bool:
    return node_id(other) in ask(node, "CLUSTER", "NODES").decode()


def _slots(node: RedisProcess) -> list[Any]:
    return list(ask(node, "CLUSTER", "SLOTS"))
