"""Owns what Redis Cluster says about places: a key's slot, who owns which slots, where a redirect points.

Pure functions; `shared.cluster` acts on them.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

SLOTS = 16_384
Node = tuple[str, int]
"""A node's host and port, as the cluster announces it."""


def slot_of(key: str | bytes | int) -> int:
    """Return the hash slot of a key: of what its first braces hold, if they hold something."""
    raw = key if isinstance(key, bytes) else str(key).encode()
    begin = raw.find(b"{")
    if begin >= 0:
        end = raw.find(b"}", begin + 1)
        if end > begin + 1:
            raw = raw[begin + 1 : end]
    return crc_hqx(raw, 0) % SLOTS


@dataclass(frozen=True, slots=True)
class Redirect:
    """Somebody else has the slot: for good (`MOVED`), or for the keys that have gone there already (`ASK`)."""

    kind: Literal["MOVED", "ASK"]
    slot: int
    node: Node


def parse_redirect(text: str, asked: Node) -> Redirect | None:
    """Read an error reply of the node `asked`; None if it redirects nowhere."""
    kind, _, rest = text.partition(" ")
    slot, _, place = rest.partition(" ")
    host, colon, port = place.strip().rpartition(":")
    if kind not in ("MOVED", "ASK") or not (slot.isdigit() and colon and port.isdigit()):
        return None
    return Redirect("MOVED" if kind == "MOVED" else "ASK", int(slot) % SLOTS, (_host(host, asked), int(port)))


def parse_slots(reply: Sequence[Any], asked: Node) -> list[Node | None]:
    """Read the reply to CLUSTER SLOTS: each slot's primary, None where nobody serves it."""
    owners: list[Node | None] = [None] * SLOTS
    for first, last, primary, *_ in reply:
        host = primary[0].decode() if primary[0] is not None else ""
        owners[first : last + 1] = [(_host(host, asked), int(primary[1]))] * (last - first + 1)
    return owners


def _host(told: str, asked: Node) -> str:
    """Return the host that is meant: a node that does not know its own name means the one it was reached by."""
    return asked[0] if told in ("", "?") else told.strip("[]")
