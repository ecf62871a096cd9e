"""Owns what a service asks of its connection to the log's Redis, be that one server or a cluster of them.

`shared.link.Link` answers it for one primary, `shared.cluster.ClusterLink` for all primaries of a cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Arg = bytes | str | int


@dataclass(slots=True)
class LinkStats:
    """Counters since the start; monitoring reads them."""

    commands: int = 0
    connects: int = 0
    losses: int = 0


class Commands(Protocol):
    """A way to send commands. All raise as `Link.call` does."""

    @property
    def stats(self) -> LinkStats:
        """What was sent and lost so far."""

    @property
    def up(self) -> bool:
        """Whether commands find a connection right now, whatever their key."""

    @property
    def crosses_slots(self) -> bool:
        """Whether a transaction may be given keys of several messages."""

    async def open(self, *, wait_s: float | None = None) -> None:
        """Start connecting; with `wait_s`, raise `Unavailable` unless `up` by then."""

    async def close(self) -> None:
        """Drop the connections and end the tasks."""

    async def wait_up(self, timeout_s: float) -> None:
        """Wait until `up`; raise `Unavailable` after `timeout_s`."""

    async def call(self, *args: Arg, deadline_s: float | None = None) -> Any:
        """Send a command whose first argument is its only key; without arguments, to any server that answers."""

    async def script(self, source: str, keys: tuple[str, ...], args: tuple[Arg, ...], *, deadline_s: float) -> Any:
        """Run a Lua script; all `keys` must be in one slot."""

    def standing(self, key: str) -> object | None:
        """Return what stands for the connection on which a command for `key` would go now, None if there is none.

        As long as it is the same object, what was sent before on it has come to the same server, and before.
        """

    def exec_at_once(self, key: str, packed: Sequence[bytes], *, deadline_s: float) -> asyncio.Future[list[Any]] | None:
        """Send packed commands as one transaction on the connection that stands, once; None if there is none.

        All that they touch lies on the server of `key`. The future gets their replies, in which an error is an
        `ErrorReply`, or whatever else went wrong: the caller then finds out what became of it.
        """

    async def everywhere(self, *args: Arg) -> dict[str, Any]:
        """Send a command that has no key to every primary; return the replies by address."""

    async def scan(self, position: str, pattern: str, count: int, *, deadline_s: float) -> tuple[str, list[bytes]]:
        """Look through a part of all keys, of every primary in turn: where to go on, and what matched.

        `position` is "0" first; "0" comes back at the end.
        """

    def lanes(self, key: str) -> Sequence[Commands]:
        """Return the connections on which the latest write to `key` can have gone: WAIT must go the same way."""
