"""Owns the commands to a Redis Cluster: one `Link` per primary, and which of them has a key's slot now.

Redirects are followed within the caller's deadline: MOVED corrects the map and has it read anew, ASK sends this one
command elsewhere, and whoever does not answer, or says that the cluster is down, has the map read anew too. As with one
server, a command is sent again until its deadline, so every caller's commands are idempotent.

Tasks: `_keep_map`, the only one that reads the map (so however many callers miss their node, it is read once), and
the links' own; all owned by the cluster link and ended by `close`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shared.commands import Arg, LinkStats
from shared.errors import Unavailable, UnsafeRedis
from shared.link import Link, digest_of, raise_unless_passing
from shared.nodes import Scout, View, fixed
from shared.pipeline import ErrorReply, Lost, pack
from shared.slots import SLOTS, Node, Redirect, parse_redirect, slot_of
from shared.tasks import end_tasks

log = logging.getLogger(__name__)

MAP_EVERY_S = 30.0
"""How often the map is read without need: it says which primaries there are to sweep."""
MAP_PAUSE_S = 0.1
"""Between two readings of the map; grows while no node serves."""
LONGEST_MAP_PAUSE_S = 1.0
PATIENCE_S = 0.2
"""How long a command waits for a link that is down before it looks who has the slot now."""
MOST_HOPS = 4
"""Redirects that one command follows without a pause."""
ASKED_S = 10.0
"""How long the target of an ASK counts as one that may have got a write: longer than any WAIT comes behind it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    """A primary, or a node that takes slots over."""

    node: Node
    link: Link

    @property
    def place(self) -> str:
        return f"{self.node[0]}:{self.node[1]}"


class _Refused(Exception):
    """A node answered with an error."""

    def __init__(self, text: str, node: Node) -> None:
        super().__init__(text)
        self.text = text
        self.node = node


class ClusterLink:
    """Commands to all primaries of a cluster; see `Commands`."""

    def __init__(self, scout: Scout, *, name: str, reply_timeout_s: float = 5.0) -> None:
        self._scout = scout
        self._name = name
        self._reply_timeout_s = reply_timeout_s
        self._members: dict[Node, _Member] = {}
        self._primaries: list[_Member] = []
        self._owners: list[_Member | None] = [None] * SLOTS
        self._asked: dict[int, tuple[_Member, float]] = {}
        self._former = LinkStats()
        self._mapped = asyncio.Event()
        self._wanted = asyncio.Event()
        self._ask_first: Node | None = None
        self._wrong: UnsafeRedis | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self, *, wait_s: float | None = None) -> None:
        """Start reading the map; with `wait_s`, raise `Unavailable` unless `up` by then."""
        self._task = asyncio.create_task(self._keep_map(), name=f"map-{self._name}")
        if wait_s is not None:
            await self.wait_up(wait_s)

    async def close(self) -> None:
        """Drop the connections and end the tasks."""
        await end_tasks(self._task)
        self._task = None
        for node in list(self._members):
            await self._leave(node)
        self._primaries, self._owners = [], [None] * SLOTS

    @property
    def up(self) -> bool:
        """Whether every primary that owns slots has a connection."""
        return bool(self._primaries) and all(member.link.up for member in self._primaries)

    @property
    def crosses_slots(self) -> bool:
        """See `Commands`."""
        return False

    @property
    def stats(self) -> LinkStats:
        """The sum over all links, former ones included."""
        total = LinkStats()
        for stats in (self._former, *(member.link.stats for member in self._members.values())):
            _add(total, stats)
        return total

    async def wait_up(self, timeout_s: float) -> None:
        """Wait until `up`; raise `Unavailable` after `timeout_s`, `UnsafeRedis` if what answers is no cluster."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._mapped.wait()
                while not self.up and self._wrong is None:
                    # Not for that one alone: another may take its place meanwhile.
                    down = next((member for member in self._primaries if not member.link.up), None)
                    if down is None:
                        await asyncio.sleep(MAP_PAUSE_S)
                    else:
                        with suppress(Unavailable):
                            await down.link.wait_up(PATIENCE_S)
        except TimeoutError:
            raise Unavailable("a primary of the cluster cannot be reached") from None
        if self._wrong is not None:
            raise self._wrong

    # -- commands

    async def call(self, *args: Arg, deadline_s: float | None = None) -> Any:
        """Send a command whose first argument is its only key; without arguments, to any primary that is there."""
        slot = slot_of(args[1]) if len(args) > 1 else None
        return await self._run(slot, pack(args), None, deadline_s)

    async def script(self, source: str, keys: tuple[str, ...], args: tuple[Arg, ...], *, deadline_s: float) -> Any:
        """Run a Lua script by its hash, loading it where the node does not know it; all `keys` lie in one slot."""
        tail = (len(keys), *keys, *args)
        packed = pack(("EVALSHA", digest_of(source), *tail))
        return await self._run(slot_of(keys[0]), packed, (source, tail), deadline_s)

    def standing(self, key: str) -> object | None:
        """Return the connection to the slot's owner, as far as we know; see `Commands`."""
        member = self._owners[slot_of(key)]
        return None if member is None else member.link.standing(key)

    def exec_at_once(self, key: str, packed: Sequence[bytes], *, deadline_s: float) -> asyncio.Future[list[Any]] | None:
        """Send a transaction to the slot's owner, once; see `Commands`. A redirect is an error like others here."""
        member = self._owners[slot_of(key)]
        if member is None:
            return None
        reply = member.link.exec_at_once(key, packed, deadline_s=_a_share(deadline_s))
        if reply is not None:
            reply.add_done_callback(self._want_map_if_lost)
        return reply

    def _want_map_if_lost(self, reply: asyncio.Future[Any]) -> None:
        if not reply.cancelled() and isinstance(reply.exception(), Lost):
            self._want_map()

    async def everywhere(self, *args: Arg) -> dict[str, Any]:
        """Send a command that has no key to every primary; return the replies by address."""
        members = self._all_primaries()
        replies = await asyncio.gather(*(member.link.call(*args) for member in members))
        return {member.place: reply for member, reply in zip(members, replies, strict=True)}

    async def scan(self, position: str, pattern: str, count: int, *, deadline_s: float) -> tuple[str, list[bytes]]:
        """Look through a part of all keys; a position is `cursor@host:port`, the primaries come in their order.

        A primary that does not answer is passed over. Keys that move meanwhile may be missed or come twice.
        """
        cursor, _, place = position.partition("@")
        rest = [member for member in self._all_primaries() if member.place >= place]
        if not rest:
            return "0", []
        member = rest[0]
        try:
            after, keys = await member.link.scan(
                cursor if member.place == place else "0", pattern, count, deadline_s=deadline_s
            )
        except Unavailable:
            log.warning("primary not looked through", extra={"node": member.place})
            after, keys = "0", []
        if after != "0":
            return f"{after}@{member.place}", keys
        return f"0@{rest[1].place}" if len(rest) > 1 else "0", keys

    def lanes(self, key: str) -> Sequence[Link]:
        """Return the link of the slot's owner, and that of a node which was lately asked for the slot."""
        slot = slot_of(key)
        owner, (asked, at) = self._owners[slot], self._asked.get(slot, (None, 0.0))
        members = [owner] if owner is not None else []
        if asked is not None and asked is not owner and asyncio.get_running_loop().time() - at < ASKED_S:
            members.append(asked)
        return [member.link for member in members]

    def _all_primaries(self) -> list[_Member]:
        if not self._primaries:
            raise Unavailable("the cluster cannot be reached")
        return sorted(self._primaries, key=lambda member: member.place)

    # -- one command's way

    async def _run(
        self, slot: int | None, packed: bytes, script: tuple[str, tuple[Arg, ...]] | None, deadline_s: float | None
    ) -> Any:
        loop = asyncio.get_running_loop()
        end = loop.time() + (self._reply_timeout_s if deadline_s is None else deadline_s)
        pause, hops = 0.02, 0
        asked: _Member | None = None
        while True:
            try:
                return await self._attempt(asked or self._member(slot), packed, end - loop.time(), asked is not None)
            except Lost:
                asked = None
                self._want_map()
            except _Refused as refusal:
                if refusal.text.startswith("NOSCRIPT") and script is not None:
                    packed = pack(("EVAL", script[0], *script[1]))
                    continue
                redirect = parse_redirect(refusal.text, refusal.node)
                if redirect is None:
                    self._bear(refusal.text)
                    asked = None
                else:
                    asked = await self._follow(redirect)
                    hops += 1
                    if hops < MOST_HOPS:
                        continue
            if loop.time() + pause >= end:
                raise Unavailable("Redis did not answer in time")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 0.5)

    async def _attempt(self, member: _Member | None, packed: bytes, left_s: float, asking: bool) -> Any:
        if member is None:
            raise Lost
        if not member.link.up:
            self._want_map()
            try:
                await member.link.wait_up(max(min(left_s, PATIENCE_S), 0.001))
            except Unavailable:
                raise Lost from None
        try:
            return await member.link.attempt(packed, _a_share(left_s), asking=asking)
        except ErrorReply as error:
            raise _Refused(str(error), member.node) from None
        except Unavailable:
            raise Lost from None

    def _member(self, slot: int | None) -> _Member | None:
        if slot is not None:
            return self._owners[slot]
        standing = [member for member in self._primaries if member.link.up] or self._primaries
        return random.choice(standing) if standing else None

    async def _follow(self, redirect: Redirect) -> _Member | None:
        """Take a redirect into account; return whom to ask this once, None if the map says it now."""
        member = await self._join(redirect.node)
        if redirect.kind == "ASK":
            self._asked[redirect.slot] = member, asyncio.get_running_loop().time()
            return member
        self._owners[redirect.slot] = member
        self._ask_first = redirect.node  # the others may not have heard of it yet
        self._want_map()
        return None

    def _bear(self, text: str) -> None:
        """Return if trying again may help; raise what the error means otherwise."""
        raise_unless_passing(text)
        if not text.startswith("TRYAGAIN"):  # that slot is on its way, as the map says
            self._want_map()

    # -- the map

    def _want_map(self) -> None:
        self._wanted.set()

    async def _keep_map(self) -> None:
        pause = MAP_PAUSE_S
        while True:
            self._wanted.clear()
            first, self._ask_first = self._ask_first, None
            links = {node: member.link for node, member in self._members.items() if member.link.up}
            try:
                await self._take(await self._scout.look(links, first=first))
                pause, self._wrong = MAP_PAUSE_S, None
            except Exception as error:  # the boundary of the task: whatever is wrong with the map, it is read again
                log.warning("cluster map not read", extra={"link": self._name, "reason": repr(error)})
                self._wrong = error if isinstance(error, UnsafeRedis) else None
                pause = min(pause * 2, LONGEST_MAP_PAUSE_S)
                self._want_map()
            if self._wrong is not None:
                self._mapped.set()  # whoever waits is told
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            with suppress(TimeoutError):
                async with asyncio.timeout(MAP_EVERY_S * random.uniform(0.75, 1.25)):
                    await self._wanted.wait()

    async def _take(self, view: View) -> None:
        primaries = {node: await self._join(node) for node in view.primaries}
        self._primaries = list(primaries.values())
        self._owners = [None if node is None else primaries[node] for node in view.owners]
        self._mapped.set()
        now = asyncio.get_running_loop().time()
        self._asked = {slot: (member, at) for slot, (member, at) in self._asked.items() if now - at < ASKED_S}
        kept = {*primaries, *(member.node for member, _ in self._asked.values())}
        for node in self._members.keys() - kept:
            await self._leave(node)

    async def _join(self, node: Node) -> _Member:
        """Return the node's member, with a link that was opened now if there was none."""
        if self._task is None:
            raise Unavailable("the link is closed")
        member = self._members.get(node)
        if member is None:
            link = Link(fixed(self._scout.introduce(node)), name=self._name, reply_timeout_s=self._reply_timeout_s)
            member = self._members[node] = _Member(node, link)
            log.info("cluster node joined", extra={"link": self._name, "node": member.place})
            await link.open()
        return member

    async def _leave(self, node: Node) -> None:
        member = self._members.pop(node)
        _add(self._former, member.link.stats)
        await member.link.close()


def _a_share(left_s: float) -> float:
    """Return how long one try may take: not all that is left, since behind a frozen node another may take over."""
    return min(left_s, max(left_s / 2, 1.0))


def _add(total: LinkStats, stats: LinkStats) -> None:
    total.commands += stats.commands
    total.connects += stats.connects
    total.losses += stats.losses
