"""The fold's law: a snapshot and the tail after it amount to the whole log, wherever the cut is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import events as ev
from shared.events import decode_event, encode_event, encode_json
from shared.fold import Fold, fold, joined
from shared.message import (
    DataPart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolPart,
    decode_message,
    encode_message,
)
from tests.support.events import ANY_EVENT, ONE_OF_EACH

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "vectors" / "fold.json").read_text())
DELTAS = st.builds(ev.TextDelta, st.sampled_from(["a", "b"]), st.text(max_size=3))
ANY_LOG = st.lists(ANY_EVENT | DELTAS, max_size=25)


def check_every_cut(events: list[ev.Event]) -> None:
    whole = fold(events)
    for cut in range(len(events) + 1):
        snapshot = decode_message(encode_message(fold(events[:cut])))
        assert Fold(snapshot).extend(events[cut:]) == whole, cut


@settings(max_examples=300, deadline=None)
@given(ANY_LOG)
def test_a_snapshot_and_its_tail_amount_to_the_whole(events: list[ev.Event]) -> None:
    check_every_cut(events)


@settings(max_examples=150, deadline=None)
@given(ANY_LOG)
def test_the_log_as_stored_folds_like_the_log_as_written(events: list[ev.Event]) -> None:
    assert fold(decode_event(encode_event(event)) for event in events) == fold(events)


@settings(max_examples=150, deadline=None)
@given(ANY_LOG)
def test_joining_deltas_changes_nothing(events: list[ev.Event]) -> None:
    one_by_one = Fold()
    for event in events:
        one_by_one.apply(event)
    assert one_by_one.message == fold(events)
    assert len(list(joined(events))) <= len(events)


@settings(max_examples=100, deadline=None)
@given(ANY_LOG, ANY_LOG)
def test_a_reset_makes_what_came_before_it_void(before: list[ev.Event], after: list[ev.Event]) -> None:
    message = Fold(fold(before)).extend([ev.Reset(1, "restart"), *after])
    clean = fold([ev.Reset(1, "restart"), *after])
    assert (message.parts, message.metadata, message.finish_reason) == (
        clean.parts,
        clean.metadata,
        clean.finish_reason,
    )


def test_two_folds_share_nothing() -> None:
    events: list[ev.Event] = [ev.TextStart("t"), ev.TextDelta("t", "x"), ev.MessageMetadata({"a": {"b": 1}})]
    one, other = Fold(), Fold()
    one.extend(events)
    one.extend([ev.TextDelta("t", "y"), ev.MessageMetadata({"a": {"c": 2}})])
    assert other.message == Message()
    assert fold(events).metadata == {"a": {"b": 1}}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_vectors_that_every_reducer_must_meet(vector: dict[str, Any]) -> None:
    events = [decode_event(encode_json(body)) for body in vector["events"]]
    assert json.loads(encode_message(fold(events))) == vector["message"]
    check_every_cut(events)


def test_the_vectors_cover_every_kind_of_event() -> None:
    covered = {type(decode_event(encode_json(body))) for vector in VECTORS for body in vector["events"]}
    assert covered == {type(event) for event in ONE_OF_EACH}
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS)


def test_a_hundred_thousand_deltas_are_folded_in_linear_time() -> None:
    """One by one they would copy the answer's text as often: minutes (the test's own time-out)."""
    events: list[ev.Event] = [ev.TextStart("t"), *(ev.TextDelta("t", "word ") for _ in range(100_000))]
    assert len(fold(events).text) == 500_000


class _Counted(list[Part]):
    """Parts that count how many of them are looked at."""

    looks = 0

    def __iter__(self) -> Iterator[Part]:
        for part in super().__iter__():
            self.looks += 1
            yield part

    def __reversed__(self) -> Iterator[Part]:
        for part in super().__reversed__():
            self.looks += 1
            yield part


@pytest.mark.parametrize("snapshot", [0, 500])
def test_however_many_parts_there_are_each_is_looked_at_once(snapshot: int) -> None:
    events: list[ev.Event] = []
    for n in range(1000):
        events += [ev.Data("d", n, f"d{n}", False), ev.ToolInputStart(f"c{n}", "f"), ev.Data("d", -n, "d0", False)]
        events += [ev.TextStart(f"t{n}"), ev.TextDelta("t0", "x"), ev.ReasoningStart("r"), ev.ReasoningEnd("r")]
    parts = _Counted(fold(events[: 7 * snapshot]).parts)
    counted = Fold(Message(parts=parts))
    counted.extend(events[7 * snapshot :])
    assert parts.looks <= 4 * snapshot
    assert counted.message.parts == fold(events).parts


def test_of_parts_of_one_id_the_first_data_and_the_last_of_others_is_meant() -> None:
    parts: list[Part] = [DataPart("d", 1, "i"), DataPart("d", 2, "i"), DataPart("d", 3), DataPart("e", 4, "i")]
    parts += [ToolPart("c", "f", "input-streaming"), ToolPart("c", "g", "input-streaming")]
    parts += [TextPart("t", "", "streaming"), TextPart("t", "", "streaming"), ReasoningPart("t", "", "streaming")]
    snapshot = decode_message(encode_message(Message(parts=parts)))
    told: list[ev.Event] = [ev.Data("d", 5, "i", False), ev.ToolOutputAvailable("c", 6), ev.TextDelta("t", "x")]
    found = Fold(snapshot).extend([*told, ev.TextEnd("t"), ev.TextDelta("t", "y")]).parts
    assert [part.data for part in found if isinstance(part, DataPart)] == [5, 2, 3, 4]
    assert [part.output for part in found if isinstance(part, ToolPart)] == [None, 6]
    texts = [(part.text, part.state) for part in found if isinstance(part, TextPart | ReasoningPart)]
    assert texts == [("", "streaming"), ("x", "done"), ("", "streaming")]


def test_the_text_is_all_text_parts_joined() -> None:
    message = fold([ev.TextStart("a"), ev.TextDelta("a", "1"), ev.ReasoningStart("r"), ev.ReasoningDelta("r", "x"),
                    ev.TextStart("b"), ev.TextDelta("b", "2")])  # fmt: skip
    assert message.text == "12"
