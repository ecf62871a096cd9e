"""Owns finding a cluster's nodes: who serves at all, and who owns which slots, from whichever node answers first.

A node that says itself that the cluster is down (it may be cut off from the others) is not believed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.errors import Unavailable, UnsafeRedis
from shared.link import Link, ReplyError, Target
from shared.slots import Node, parse_slots

ASK_S = 0.5
"""How long one node may take to be reached, and to answer."""


@dataclass(frozen=True, slots=True)
class View:
    """What one serving node says: each slot's primary, None where nobody serves it."""

    told_by: Node
    owners: Sequence[Node | None]

    @property
    def primaries(self) -> list[Node]:
        """All that own a slot, in an order that every process finds the same."""
        return sorted({node for node in self.owners if node is not None})


class Scout:
    """Asks nodes for the view of the cluster. `known` grows with what they say; `seeds` are asked last."""

    def __init__(self, seeds: Sequence[Node], introduce: Callable[[Node], Target]) -> None:
        """`introduce` says how to connect to a node."""
        self._seeds = tuple(seeds)
        self.introduce = introduce
        self.known: list[Node] = []

    async def look(
        self, links: Mapping[Node, Link] | None = None, *, first: Node | None = None, last: Node | None = None
    ) -> View:
        """Return the view of the first node that serves; `links` are used where they stand, others are visited.

        Raises `Unavailable` if none serves, `UnsafeRedis` if what answers is no cluster.
        """
        links = links or {}
        wrong: UnsafeRedis | None = None
        for node in self._candidates(links, first, last):
            try:
                link = links.get(node)
                view = await (self._visit(node) if link is None else _ask(link, node))
            except (Unavailable, TimeoutError, ReplyError):
                continue
            except UnsafeRedis as error:
                wrong = error
                continue
            self.known = view.primaries
            return view
        raise wrong or Unavailable("no node of the cluster serves")

    def _candidates(self, links: Mapping[Node, Link], first: Node | None, last: Node | None) -> list[Node]:
        groups = [_shuffled(links), _shuffled(self.known), _shuffled(self._seeds)]
        nodes = list(dict.fromkeys(node for group in groups for node in group))
        # Stable: the rest stays as it is.
        return sorted(nodes, key=lambda node: 0 if node == first else 2 if node == last else 1)

    async def _visit(self, node: Node) -> View:
        link = Link(fixed(self.introduce(node)), name="scout", connect_timeout_s=ASK_S)
        try:
            await link.open(wait_s=ASK_S)
            return await _ask(link, node)
        finally:
            await link.close()


async def _ask(link: Link, node: Node) -> View:
    try:
        info, slots = await asyncio.gather(
            link.call("CLUSTER", "INFO", deadline_s=ASK_S), link.call("CLUSTER", "SLOTS", deadline_s=ASK_S)
        )
    except ReplyError as error:
        if "cluster support disabled" in str(error):
            raise UnsafeRedis("the Redis URL begins with cluster://, but the server there is no cluster") from None
        raise
    if b"cluster_state:ok" not in info:
        raise Unavailable("the cluster is down, says a node")
    return View(node, parse_slots(slots, node))


def _shuffled(nodes: Mapping[Node, object] | Sequence[Node]) -> list[Node]:
    return random.sample(list(nodes), len(nodes))


def fixed(target: Target) -> Callable[[], Awaitable[Target]]:
    """Return a resolver that always says the same."""

    async def resolve() -> Target:
        return target

    return resolve


class AnyNode:
    """A resolver for subscriptions, which every node serves: a node that serves, each time another one if it can.

    It is asked again when the link to the one before was lost, or was never made.
    """

    def __init__(self, scout: Scout) -> None:
        self._scout = scout
        self._before: Node | None = None

    async def __call__(self) -> Target:
        """Return how to connect to it; raise `Unavailable` if none serves."""
        if not self._scout.known:
            await self._scout.look()  # so that not everybody takes the seed
        view = await self._scout.look(last=self._before)
        self._before = view.told_by
        return self._scout.introduce(view.told_by)
