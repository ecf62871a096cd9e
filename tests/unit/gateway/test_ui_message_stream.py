"""The AI SDK's wire as an encoder: whatever the log says, clients get chunks they know, numbered without a hole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.base import Breaking, Wire
from gateway.protocols.ui_message_stream import UI, UI_STEPS, answers_late
from shared import events as ev
from shared.cursor import Cursor
from shared.log.types import Entry
from tests.protocols.rendering import LOGS, read_log
from tests.support.events import ANY_EVENT

KNOWN = {
    *("start", "start-step", "finish-step", "text-start", "text-delta", "text-end", "reasoning-start"),
    *("reasoning-delta", "reasoning-end", "tool-input-start", "tool-input-delta", "tool-input-available"),
    *("tool-input-error", "tool-output-available", "tool-output-error", "source-url", "source-document", "file"),
    *("message-metadata", "abort", "error", "finish"),
}
"""What every release from ai 5 on takes, besides `data-*`."""
BLOCK = re.compile(rb"id: ([A-Za-z0-9_=-]+):(\d+):(\d+)\ndata: (.*)\n\n(data: \[DONE\]\n\n)?")


def log_of(events: Sequence[ev.Event]) -> list[Entry]:
    epoch = 1_763_000_000_000_000
    return [Entry(Cursor(epoch, number), ev.encode_event(event)) for number, event in enumerate(events, 1)]


def blocks_of(wire: Wire, entries: Sequence[Entry]) -> list[bytes]:
    encoder = wire.make()
    return [block for entry in entries for block in encoder.encode(entry)]


def parsed(blocks: Sequence[bytes]) -> list[tuple[int, dict[str, Any], bool]]:
    """Return each block's number, chunk, and whether it is the last."""
    found = [BLOCK.fullmatch(block) for block in blocks]
    return [(int(match[2]), msgspec.json.decode(match[4]), bool(match[5])) for match in found if match is not None]


BODIES = st.lists(ANY_EVENT.filter(lambda event: not isinstance(event, ev.Created | ev.End)), max_size=12)
ENDS = st.builds(ev.End, st.sampled_from(["done", "failed", "aborted"]), st.just(1))
WHOLE = st.builds(lambda body, end: log_of([ev.Created("c", "m", "x", 1, "ui"), *body, end]), BODIES, ENDS)


@given(WHOLE)
def test_any_log_gives_known_chunks_from_start_to_done(entries: list[Entry]) -> None:
    for wire in (UI, UI_STEPS):
        blocks = blocks_of(wire, entries)
        chunks = parsed(blocks)
        assert [number for number, _, _ in chunks] == list(range(len(blocks)))
        kinds = [str(chunk["type"]) for _, chunk, _ in chunks]
        assert {kind for kind in kinds if not kind.startswith("data-")} <= KNOWN | (
            {"reset-step"} if wire is UI_STEPS else set()
        )
        assert chunks[0][1] == {"type": "start", "messageId": "m"}
        assert [done for _, _, done in chunks] == [False] * (len(chunks) - 1) + [True]
        assert kinds.count("finish") == 1
        assert kinds[-1] == "finish"


@given(WHOLE)
def test_both_wires_count_alike(entries: list[Entry]) -> None:
    plain, steps = blocks_of(UI, entries), blocks_of(UI_STEPS, entries)
    assert [block.split(b"\n")[0] for block in plain] == [block.split(b"\n")[0] for block in steps]


@pytest.mark.parametrize("name", [name for name in LOGS if "restarted" in name])
@pytest.mark.parametrize("wire", [UI, UI_STEPS], ids=["ui", "ui-steps"])
def test_who_comes_late_gets_the_same_without_what_is_void(name: str, wire: Wire) -> None:
    entries = read_log(name)
    void_until = max(entry.cursor.seq for entry in entries if isinstance(entry.event, ev.Reset))
    whole = blocks_of(wire, entries)
    late = blocks_of(answers_late(wire, void_until, fill=False), entries)
    filled = blocks_of(answers_late(wire, void_until, fill=True), entries)
    assert not any(isinstance(block, Breaking) for block in late + filled)
    before = len(blocks_of(wire, entries[:1]))
    behind = len(blocks_of(wire, entries[:void_until]))
    assert late[:before] == whole[:before] == filled[:before]
    assert "Void" not in str(late + filled)
    assert len(filled) == len(whole)
    # Only the border of the first step may differ: who was told `reset-step` has it already.
    assert [b.replace(b"start-step", b"finish-step") for b in late[before:]] == [
        b.replace(b"start-step", b"finish-step") for b in whole[behind:]
    ]
    assert filled[behind + 1 :] == whole[behind + 1 :]


def test_the_connection_breaks_where_nothing_else_can_say_that_it_is_void() -> None:
    def breaks(wire: Wire, name: str) -> int:
        return sum(isinstance(block, Breaking) for block in blocks_of(wire, read_log(name)))

    assert [breaks(UI, name) for name in ("restarted", "restarted_twice", "restarted_before_the_first_word")] == [
        1,
        2,
        0,
    ]
    assert [breaks(UI_STEPS, name) for name in ("restarted", "restarted_twice", "restarted_after_a_step")] == [0, 0, 1]


def test_a_message_that_goes_on_is_rebuilt_before_it() -> None:
    chunks = [chunk for _, chunk, _ in parsed(blocks_of(UI, read_log("tool_result_sent_back")[:1]))]
    assert chunks[0] == chunks[-1] == {"type": "start", "messageId": "ui_1"}
    # An available input would have the client run the tool again.
    assert "tool-input-available" not in [chunk["type"] for chunk in chunks]


def test_somebody_elses_options_mean_nothing() -> None:
    first = parsed(blocks_of(UI, read_log("started_natively")))[0][1]
    assert first == {"type": "start", "messageId": "msg_0a1b2c"}


def test_a_refusal_is_text_like_any_other() -> None:
    found = parsed(blocks_of(UI, read_log("refusal")))
    assert {"type": "text-start", "id": "refusal"} in [chunk for _, chunk, _ in found]
