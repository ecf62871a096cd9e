"""Owns what must hold of the clients of other wires: what they were told adds up to the one text, and all see its end.

A client's last word is judged against the final log: the same state and, of a whole answer, the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.fold import fold
from tests.chaos.check.clients import REACH_S, by_viewer
from tests.chaos.check.excuses import gone
from tests.chaos.check.texts import begins, given
from tests.chaos.check.world import TERMINAL, Place, Violation, World
from tests.chaos.records import Conn


@dataclass(slots=True)
class Heard:
    """What a client has at the end of a connection (or, of responses, of all)."""

    text: str = ""
    told: str = ""
    """The state that it was told last: done, failed or aborted; "" if the answer goes on."""
    at: float = 0.0
    """When."""
    unsure: bool = False
    """Whether it went on by number from inside a lost lag: one of README's limits."""

    def tell(self, state: str, at: float) -> None:
        self.told, self.at = state, at


def check_wires(world: World) -> Iterator[Violation]:
    """Yield what is wrong."""
    for wire, hear in (("chat_completions", _completion), ("ui", _ui)):
        for name, conns in by_viewer(world, wire).items():
            yield from _client(world, name, conns, hear)
    for name, conns in by_viewer(world, "responses").items():
        place, heard = place_of(conns), Heard()
        yield from _response(world, name, conns, given(world, place), heard)
        yield from reached(world, name, conns, heard)


def place_of(conns: list[Conn]) -> Place:
    """Return which message a client followed; ("", "") if it never learned."""
    return next(((conn.chat, conn.message) for conn in reversed(conns) if conn.message), ("", ""))


def _client(world: World, name: str, conns: list[Conn], hear: Callable[[Conn], Heard]) -> Iterator[Violation]:
    """A client that begins at the beginning every time: each connection is judged by itself, the last for its end."""
    texts, heard = given(world, place_of(conns)), Heard()
    for conn in conns:
        heard = hear(conn)
        if texts is not None and not begins(texts, heard.text):
            yield Violation("I5", name, f"the text differs ({len(heard.text)} characters, {heard.told or 'cut'})")
        if conn.status == 200 and conn.ended == "clean" and not heard.told and not _restarted(conn):
            yield Violation("I5", name, "a body ended in order without its last word")
    yield from reached(world, name, conns, heard)


def _restarted(conn: Conn) -> bool:
    return bool(conn.events) and '"code":"answer_restarted"' in conn.events[-1][2]


def reached(world: World, name: str, conns: list[Conn], heard: Heard) -> Iterator[Violation]:
    """I8: every client of every wire reaches the end of its message, and what it is told there is so.

    Excuses: the message was deleted, or a data loss left nothing of it; and an end that was told inside a lost lag may
    be followed by another attempt, whoever has seen it keeps it.
    """
    place, last = place_of(conns), conns[-1]
    log = world.logs.get(place)
    if world.deleted(place) or (log is not None and log.state == "deleted"):
        return
    if not heard.told:
        if log is not None or not gone(world, place):
            how = f"last {last.status} {last.ended}, {len(heard.text)} characters"
            yield Violation("I8", name, f"never saw the end of {place[1] or 'what it asked for'} ({how})")
        return
    if log is None or log.state not in TERMINAL or world.lossy(heard.at, slack_s=REACH_S):
        return
    if heard.told != log.state:
        yield Violation("I8", name, f"was told {heard.told}, and the log says {log.state}")
    elif heard.told == "done" and heard.text != fold(log.events).text and not heard.unsure:
        yield Violation("I5", name, "was told done, and has another text than the log")


def _completion(conn: Conn) -> Heard:
    heard = Heard()
    for at, _, raw in conn.events:
        if raw == "[DONE]":
            heard.tell("done", at)
            continue
        chunk: dict[str, Any] = msgspec.json.decode(raw)
        code = chunk["error"]["code"] if "error" in chunk else ""
        if code and code != "answer_restarted":
            heard.tell("aborted" if code == "aborted" else "failed", at)
        for choice in chunk.get("choices", ()):
            heard.text += choice["delta"].get("content") or ""
    return heard


def _ui(conn: Conn) -> Heard:
    heard, state = Heard(), "done"
    for at, _, raw in conn.events:
        if raw == "[DONE]":
            heard.tell(state, at)
            continue
        chunk: dict[str, Any] = msgspec.json.decode(raw)
        match chunk["type"]:
            case "text-delta":
                heard.text += chunk["delta"]
            case "abort":
                state = "aborted"
            case "error":
                state = "failed"
    return heard


_STATES = {"response.completed": "done", "response.failed": "failed", "response.incomplete": "failed"}


def _response(world: World, name: str, conns: list[Conn], texts: list[str] | None, heard: Heard) -> Iterator[Violation]:
    number, over, lossy = -1, False, False
    for conn in conns:
        fresh = not conn.asked
        heard.unsure = lossy and not fresh
        for at, _, raw in conn.events:
            event: dict[str, Any] = msgspec.json.decode(raw)
            count, kind = event.get("sequence_number", -1), event["type"]
            if fresh:
                heard.text, number, fresh = "", count - 1, False
            if count != number + 1 and not heard.unsure:
                yield Violation("I5", name, f"event {count} follows {number}")
                return
            number, lossy = count, world.lossy(at, slack_s=REACH_S)
            over = _hear(heard, event, at)
            if texts is not None and not begins(texts, heard.text) and not heard.unsure:
                yield Violation("I5", name, f"the text differs at event {count} ({kind})")
                return
        nothing_left = heard.unsure and not conn.events  # by chance as many as the log has that a failover left
        if conn.status == 200 and conn.ended == "clean" and not over and not nothing_left:
            yield Violation("I5", name, "a body ended in order without its last word")


def _hear(heard: Heard, event: dict[str, Any], at: float) -> bool:
    """Take an event; return whether its stream may end with it."""
    kind = event["type"]
    if kind == "response.created":
        heard.text = ""
    elif kind == "response.output_text.delta":
        heard.text += event["delta"]
    error = (event.get("response") or {}).get("error") or {}
    restarted = error.get("code") == "answer_restarted"
    cancelled = (event.get("response") or {}).get("status") == "cancelled" or error.get("code") == "aborted"
    state = "" if restarted else "aborted" if cancelled and kind in _STATES else _STATES.get(kind, "")
    if state:
        heard.tell(state, at)
    return kind in _STATES or kind == "error"
