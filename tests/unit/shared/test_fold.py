"""The fold's law: a snapshot and the tail after it amount to the whole log, wherever the cut is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import events as ev
from shared.events import decode_event, encode_event, encode_json
from shared.fold import Fold, fold, joined
from shared.message import Message, decode_message, encode_message
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


def test_the_text_is_all_text_parts_joined() -> None:
    message = fold([ev.TextStart("a"), ev.TextDelta("a", "1"), ev.ReasoningStart("r"), ev.ReasoningDelta("r", "x"),
                    ev.TextStart("b"), ev.TextDelta("b", "2")])  # fmt: skip
    assert message.text == "12"
