"""The Responses wire: its events in order, numbered, closed, and telling the same as the object read later."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from gateway.protocols.base import LastBlock, until_last
from gateway.protocols.responses import ResponsesEncoder
from gateway.protocols.responses_object import ResponseOptions, response_of
from shared import events as ev
from shared.fold import fold
from tests.support.openai_logs import RESPONSE_ID, RESPONSE_OPTIONS, created, entries, logs, random_logs

WIRE = "responses"
LOGS = logs(WIRE)
OPTIONS = msgspec.convert(RESPONSE_OPTIONS, ResponseOptions)
SUMMARISED = {**RESPONSE_OPTIONS, "reasoning": {"effort": "low", "summary": "auto"}}
Event = dict[str, Any]
TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def blocks(events: list[ev.Event]) -> list[bytes]:
    encoder = ResponsesEncoder()
    return [block for entry in entries(events) for block in encoder.encode(entry)]


def read(found: list[bytes]) -> list[Event]:
    out = []
    for block in found:
        first, second, *rest = block.split(b"\n")
        assert rest == [b"", b""]
        event = json.loads(second.removeprefix(b"data: "))
        assert first == b"event: " + event["type"].encode()
        out.append(event)
    return out


def fresh(found: list[bytes]) -> list[bytes]:
    """What a client gets that comes after the end."""
    begin = max((at + 1 for at, block in enumerate(found) if isinstance(block, LastBlock)), default=0)
    return found[begin:]


def test_a_plain_answer_in_order() -> None:
    found = read(blocks(LOGS["plain"]))
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created", "queued", "in_progress", "output_item.added", "content_part.added",
        "output_text.delta", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event["response"]["status"] for event in (*found[:3], found[-1])] == [
        "queued", "queued", "in_progress", "completed",
    ]  # fmt: skip
    response = found[-1]["response"]
    assert response["id"] == RESPONSE_ID
    assert response["object"] == "response"
    assert response["created_at"] == 1_763_000_000
    assert (response["background"], response["instructions"]) == (True, "Be brief.")
    assert response["output"] == [
        {
            "type": "message", "id": "msg_0a1b2c_0", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "Locks lift boats.", "annotations": [], "logprobs": []}],
        }
    ]  # fmt: skip
    assert response["usage"] == {
        "input_tokens": 12, "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 19,
    }  # fmt: skip


def test_sources_are_annotations_of_the_text_that_they_stand_in() -> None:
    found = read(blocks(LOGS["sources"]))
    told = [event for event in found if event["type"] == "response.output_text.annotation.added"]
    assert [(event["annotation_index"], event["annotation"]["url"]) for event in told] == [
        (0, "https://a"), (1, "https://b"),
    ]  # fmt: skip
    [item] = found[-1]["response"]["output"]
    assert item["content"][0]["annotations"] == [event["annotation"] for event in told]


def test_a_refusal_is_no_text() -> None:
    found = read(blocks(LOGS["refusal"]))
    assert [event["type"].removeprefix("response.") for event in found[3:-1]] == [
        "output_item.added", "content_part.added", "refusal.delta", "refusal.delta", "refusal.done",
        "content_part.done", "output_item.done",
    ]  # fmt: skip
    [item] = found[-1]["response"]["output"]
    assert item["content"] == [{"type": "refusal", "refusal": "I will not."}]


def test_a_foreground_response_is_never_queued() -> None:
    found = read(blocks([created(WIRE, {}), *LOGS["plain"][1:]]))
    assert [event["type"] for event in found[:2]] == ["response.created", "response.in_progress"]
    assert found[0]["response"]["status"] == "in_progress"


@pytest.mark.parametrize("case", sorted(LOGS))
def test_numbers_count_from_zero_without_a_hole_and_no_block_has_an_id(case: str) -> None:
    found = blocks(LOGS[case])
    assert [event["sequence_number"] for event in read(found)] == list(range(len(found)))


@pytest.mark.parametrize("case", sorted(set(LOGS) - {"lost"}))
def test_an_item_is_opened_and_closed_once_under_one_id_and_stands_in_the_output(case: str) -> None:
    check_items(read(fresh(blocks(LOGS[case]))))


def check_items(found: list[Event]) -> None:
    assert found[0]["type"] == "response.created"
    assert [event["type"] in TERMINAL for event in found] == [False] * (len(found) - 1) + [True]
    items: dict[int, Event] = {}
    texts: dict[int, str] = {}
    for event in found:
        index = int(event.get("output_index", -1))
        match event["type"].removeprefix("response.").split("."):
            case ["output_item", "added"]:
                assert index == len(items)
                assert event["item"]["status"] == "in_progress"
                items[index], texts[index] = event["item"], ""
            case [_, "delta"]:
                assert event["item_id"] == items[index]["id"]
                texts[index] += event["delta"]
            case ["output_text" | "reasoning_text" | "reasoning_summary_text", "done"]:
                assert event["text"] == texts[index]
            case ["refusal", "done"]:
                assert event["refusal"] == texts[index]
            case ["function_call_arguments", "done"]:
                assert event["arguments"] == texts[index]
            case ["output_item", "done"]:
                assert items[index]["status"] == "in_progress"
                assert event["item"]["id"] == items[index]["id"]
                items[index] = event["item"]
    assert found[-1]["response"]["output"] == [items[index] for index in sorted(items)]


def test_reasoning_text_and_calls_are_items_of_their_own() -> None:
    output = read(blocks(LOGS["reasoning"]))[-1]["response"]["output"]
    assert [item["id"] for item in output] == ["rs_0a1b2c_0", "msg_0a1b2c_1"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "Hm, locks."}]
    output = read(blocks(LOGS["tools"]))[-1]["response"]["output"]
    assert [(item["id"], item.get("arguments")) for item in output] == [
        ("msg_0a1b2c_0", None), ("fc_0a1b2c_1", '{"city": "Ribe"}'), ("fc_0a1b2c_2", '{"city":"Ghent"}'),
    ]  # fmt: skip


def test_reasoning_is_a_summary_for_who_asked_for_one() -> None:
    found = read(blocks([created(WIRE, SUMMARISED), *LOGS["reasoning"][1:]]))
    check_items(found)
    of_reasoning = [event for event in found if event.get("output_index") == 0]
    assert [event["type"].removeprefix("response.") for event in of_reasoning] == [
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done",
        "output_item.done",
    ]  # fmt: skip
    assert {event["summary_index"] for event in of_reasoning[1:-1]} == {0}
    part = {"type": "summary_text", "text": "Hm, locks."}
    assert of_reasoning[-2]["part"] == part
    item = found[-1]["response"]["output"][0]
    assert (item["summary"], item["content"]) == ([part], [])


def test_calls_of_tools_that_the_client_did_not_declare_are_not_its_business() -> None:
    output = read(blocks(LOGS["own_tools"]))[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message"]


@pytest.mark.parametrize(
    ("case", "kind", "status", "reason", "code"),
    [
        ("length", "incomplete", "incomplete", "max_output_tokens", None),
        ("filtered", "incomplete", "incomplete", "content_filter", None),
        ("stopped", "incomplete", "cancelled", "cancelled", None),
        ("stopped_waiting", "incomplete", "cancelled", "cancelled", None),
        ("failed", "failed", "failed", None, "upstream_interrupted"),
        ("model_error", "failed", "failed", None, "upstream_error"),
        ("restarted_and_failed", "failed", "failed", None, "worker_lost"),
        ("continued", "completed", "completed", None, None),
    ],
)
def test_every_end_has_its_event(case: str, kind: str, status: str, reason: str | None, code: str | None) -> None:
    last = read(blocks(LOGS[case]))[-1]
    response = last["response"]
    assert (last["type"], response["status"]) == (f"response.{kind}", status)
    assert (response["incomplete_details"] or {}).get("reason") == reason
    assert (response["error"] or {}).get("code") == code


@pytest.mark.parametrize(
    ("case", "statuses"),
    [
        ("length", ["incomplete"]),
        ("filtered", ["incomplete"]),
        ("stopped", ["incomplete"]),
        ("failed", ["incomplete"]),
        ("cut_call", ["completed", "completed", "incomplete"]),
        ("stopped_in_a_call", ["completed", "incomplete"]),
        ("bad_input", ["completed"]),
        ("tools", ["completed", "completed", "completed"]),
    ],
)
def test_what_was_cut_off_is_not_called_whole(case: str, statuses: list[str]) -> None:
    found = read(blocks(LOGS[case]))
    done = [event["item"]["status"] for event in found if event["type"] == "response.output_item.done"]
    shown = [item["status"] for item in found[-1]["response"]["output"]]
    later = [item.status for item in response_of(fold(LOGS[case]), OPTIONS).output]
    assert done == shown == later == statuses


@pytest.mark.parametrize("case", ["cut_call", "stopped_in_a_call"])
def test_arguments_that_were_cut_off_are_not_called_done(case: str) -> None:
    told = [event for event in read(blocks(LOGS[case])) if event["type"] == "response.function_call_arguments.done"]
    assert "Whitby" not in str(told)


def test_what_was_said_before_a_stop_is_kept() -> None:
    response = read(blocks(LOGS["stopped"]))[-1]["response"]
    assert response["output"][0]["content"][0]["text"] == "Void text"


def test_a_log_that_begins_with_its_end_says_so_in_both_forms_of_the_error_event() -> None:
    [event] = read(blocks(LOGS["lost"]))
    assert event["type"] == "error"
    assert event["code"] == event["error"]["code"] == "lost"


def test_a_client_that_has_void_text_is_told_so_and_gets_no_more() -> None:
    found, over = until_last(blocks(LOGS["restarted"]))
    assert over
    last = read(list(found))[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == "answer_restarted"


@pytest.mark.parametrize("case", ["restarted", "restarted_twice"])
def test_a_client_that_comes_later_gets_the_fresh_attempt_alone_with_numbers_of_its_own(case: str) -> None:
    found = blocks(LOGS[case])
    late = read(fresh(found))
    check_items(late)
    assert late[0]["sequence_number"] == len(found) - len(late)
    assert [item["content"][0]["text"] for item in late[-1]["response"]["output"]] == ["Fresh text."]


def test_an_attempt_that_said_nothing_leaves_no_trace() -> None:
    assert not until_last(blocks(LOGS["restarted_unseen"]))[1]
    check_items(read(blocks(LOGS["restarted_unseen"])))


@pytest.mark.parametrize("options", [RESPONSE_OPTIONS, SUMMARISED], ids=["plain", "summarised"])
@given(drawn=random_logs(WIRE))
def test_the_stream_ends_with_the_response_that_is_read_later(options: dict[str, Any], drawn: list[ev.Event]) -> None:
    events = [created(WIRE, options), *drawn[1:]]
    found = read(fresh(blocks(events)))
    check_items(found)
    later = response_of(fold(events), msgspec.convert(options, ResponseOptions))
    assert found[-1]["response"] == msgspec.to_builtins(later)


@given(random_logs(WIRE))
def test_while_it_is_written_the_object_has_what_the_events_said(events: list[ev.Event]) -> None:
    cut = len(events) * 2 // 3
    so_far = read(fresh(blocks(events[:cut])))
    voices = ("response.output_text.delta", "response.refusal.delta")
    said = "".join(event["delta"] for event in so_far if event["type"] in voices)
    response = response_of(fold(events[:cut]), OPTIONS)
    shown = msgspec.to_builtins(response)["output"]
    parts = [part for item in shown if item["type"] == "message" for part in item["content"]]
    assert "".join(part.get("text", part.get("refusal")) for part in parts) == said
