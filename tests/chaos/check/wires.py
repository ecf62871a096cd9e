"""Owns what must hold of the clients of other wires: what they were told adds up to the one text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from deploy.scripted_model.text import full_text
from tests.chaos.check.clients import by_viewer
from tests.chaos.check.world import Violation, World
from tests.chaos.records import Conn


def check_wires(world: World) -> Iterator[Violation]:
    """Yield what is wrong."""
    for name, conns in by_viewer(world, "chat_completions").items():
        whole = _whole(world, conns)
        if whole is not None:
            for conn in conns:
                yield from _completion(name, conn, whole)
    for name, conns in by_viewer(world, "ui").items():
        whole = _whole(world, conns)
        if whole is not None:
            for conn in conns:
                yield from _ui(world, name, conn, whole)
    for name, conns in by_viewer(world, "responses").items():
        whole = _whole(world, conns)
        if whole is not None:
            yield from _response(world, name, conns, whole)


def _whole(world: World, conns: list[Conn]) -> str | None:
    places = [(conn.chat, conn.message) for conn in conns if conn.message]
    start = world.prompts.get(places[-1]) if places else None
    return None if start is None else full_text([{"role": "user", "content": start.prompt}])


def _completion(name: str, conn: Conn, whole: str) -> Iterator[Violation]:
    text, told = "", ""
    for _, _, raw in conn.events:
        if raw == "[DONE]":
            told = "done"
            continue
        chunk: dict[str, Any] = msgspec.json.decode(raw)
        if "error" in chunk:
            told = "error"
            continue
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
    if not whole.startswith(text) or (told == "done" and text != whole):
        yield Violation("I5", name, f"a completion's text differs ({len(text)} of {len(whole)}, {told or 'cut'})")
    if conn.status == 200 and conn.ended == "clean" and not told:
        yield Violation("I5", name, "a completion ended in order without its last word")


def _ui(world: World, name: str, conn: Conn, whole: str) -> Iterator[Violation]:
    text, last = "", ""
    for _, _, raw in conn.events:
        if raw == "[DONE]":
            last = raw
            continue
        chunk: dict[str, Any] = msgspec.json.decode(raw)
        if chunk["type"] == "text-delta":
            text += chunk["delta"]
        elif chunk["type"] in ("abort", "error"):
            last = chunk["type"]
            break
    if not whole.startswith(text) or (last == "[DONE]" and text != whole):
        yield Violation("I5", name, f"a UI message's text differs ({len(text)} of {len(whole)}, {last or 'cut'})")
    if conn.status == 200 and conn.ended == "clean" and not last:
        yield Violation("I5", name, "a UI message's stream ended in order without its last word")


def _response(world: World, name: str, conns: list[Conn], whole: str) -> Iterator[Violation]:
    text, number, over = "", -1, False
    excused = world.lossy_span(conns[0].opened, conns[-1].closed)
    for conn in conns:
        fresh = not conn.asked
        for _, _, raw in conn.events:
            event: dict[str, Any] = msgspec.json.decode(raw)
            at, kind = event.get("sequence_number", -1), event["type"]
            if fresh:
                text, number, fresh = "", at - 1, False
            if at != number + 1 and not excused:
                yield Violation("I5", name, f"event {at} follows {number}")
                return
            number = at
            if kind == "response.created":
                text = ""
            elif kind == "response.output_text.delta":
                text += event["delta"]
            over = kind in ("response.completed", "response.incomplete", "response.failed")
            wrong = not whole.startswith(text) or (kind == "response.completed" and text != whole)
            if wrong and not excused:
                yield Violation("I5", name, f"a response's text differs at event {at} ({kind})")
                return
        if conn.status == 200 and conn.ended == "clean" and not over:
            yield Violation("I5", name, "a response's stream ended in order without its last word")
