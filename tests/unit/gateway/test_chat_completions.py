"""The Chat Completions wire: what its chunks say, what they add up to, and how a client learns of every bad end."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from gateway.protocols.base import LastBlock, until_last
from gateway.protocols.chat_completions import DONE, ChatCompletionsEncoder
from gateway.protocols.chat_object import ChatOptions, chat_completion
from gateway.protocols.openai_common import failure_of
from shared import events as ev
from shared.fold import fold
from tests.support.openai_logs import CHAT_ID, CHAT_OPTIONS, created, entries, logs, random_logs

WIRE = "chat_completions"
LOGS = logs(WIRE)


def blocks(events: list[ev.Event]) -> list[bytes]:
    encoder = ChatCompletionsEncoder()
    return [block for entry in entries(events) for block in encoder.encode(entry)]


def chunks(found: list[bytes]) -> list[dict[str, Any]]:
    assert all(block.startswith(b"data: ") and block.endswith(b"\n\n") for block in found)
    assert all(block.count(b"\n") == 2 for block in found)
    return [json.loads(block[6:]) for block in found if block != DONE]


def fresh(found: list[bytes]) -> list[bytes]:
    """What a client gets that comes after the end."""
    begin = max((at + 1 for at, block in enumerate(found) if isinstance(block, LastBlock)), default=0)
    return found[begin:]


def added_up(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the deltas up as openai-python does: strings are concatenated, whatever they are called."""
    out: dict[str, Any] = {}
    calls: dict[int, dict[str, str]] = {}
    for chunk in found:
        for choice in chunk.get("choices", []):
            delta = dict(choice["delta"])
            if "annotations" in delta:
                assert "annotations" not in out
                out["annotations"] = delta.pop("annotations")
            for piece in delta.pop("tool_calls", []):
                made = calls.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                made["id"] += piece.get("id", "")
                made["name"] += piece["function"].get("name", "")
                made["arguments"] += piece["function"]["arguments"]
            for key, value in delta.items():
                out[key] = out.get(key, "") + value
            if choice["finish_reason"]:
                assert "finish_reason" not in out
                out["finish_reason"] = choice["finish_reason"]
    return {**out, "calls": [calls[index] for index in sorted(calls)]}


def test_a_plain_answer_is_a_role_its_text_a_finish_the_usage_and_done() -> None:
    found = blocks(LOGS["plain"])
    assert found[-1] == DONE
    assert found[0] == (
        b'data: {"id":"chatcmpl-0a1b2c","object":"chat.completion.chunk","created":1763000000,"model":"scripted",'
        b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
        b'"usage":null}\n\n'
    )
    read = chunks(found)
    assert [chunk["choices"][0]["delta"] for chunk in read[1:-1]] == [
        {"content": "Locks "}, {"content": "lift "}, {"content": "boats."}, {},
    ]  # fmt: skip
    assert [chunk["choices"][0]["finish_reason"] for chunk in read[:-1]] == [None] * 4 + ["stop"]
    assert read[-1]["choices"] == []
    assert read[-1]["usage"] == {
        "prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19,
        "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    assert [chunk["usage"] for chunk in read[:-1]] == [None] * 5
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in read}) == 1


def test_without_include_usage_no_chunk_speaks_of_it() -> None:
    events = [created(WIRE, {}), *LOGS["plain"][1:]]
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks(blocks(events)))


def test_usage_that_the_model_never_told_is_null_and_not_zero() -> None:
    assert chunks(blocks(LOGS["odd_text"]))[-1]["usage"] is None


def test_reasoning_is_not_content() -> None:
    out = added_up(chunks(blocks(LOGS["reasoning"])))
    assert (out["reasoning_content"], out["content"]) == ("Hm, locks.", "They lift.")


def test_sources_are_annotations_told_at_once() -> None:
    out = added_up(chunks(blocks(LOGS["sources"])))
    assert out["content"] == "Locks lift."
    cited = [note["url_citation"] for note in out["annotations"]]
    assert [(each["url"], each["title"]) for each in cited] == [("https://a", "https://a"), ("https://b", "B")]


def test_a_refusal_is_not_content() -> None:
    out = added_up(chunks(blocks(LOGS["refusal"])))
    assert (out["refusal"], out["content"], out["finish_reason"]) == ("I will not.", "", "stop")
    said = chat_completion(fold(LOGS["refusal"]), ChatOptions()).choices[0].message
    assert (said.refusal, said.content) == ("I will not.", None)


def test_tool_calls_have_an_index_and_their_id_and_name_once() -> None:
    read = chunks(blocks(LOGS["tools"]))
    pieces = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in read[2:-2]]
    assert pieces == [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city": '}},
        {"index": 0, "function": {"arguments": '"Ribe"}'}},
        {"index": 1, "id": "c2", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 1, "function": {"arguments": '{"city":"Ghent"}'}},
    ]
    assert read[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_input_that_is_not_json_is_passed_on_as_it_came() -> None:
    assert added_up(chunks(blocks(LOGS["bad_input"])))["calls"] == [{"id": "c1", "name": "weather", "arguments": "{"}]


def test_calls_of_tools_that_the_client_did_not_declare_are_not_its_business() -> None:
    out = added_up(chunks(blocks(LOGS["own_tools"])))
    assert out == {"role": "assistant", "content": "Three hits.", "finish_reason": "stop", "calls": []}


@pytest.mark.parametrize(
    ("case", "reason"), [("length", "length"), ("filtered", "content_filter"), ("continued", "stop")]
)
def test_finish_reasons(case: str, reason: str) -> None:
    assert added_up(chunks(blocks(LOGS[case])))["finish_reason"] == reason


def test_a_continued_answer_just_goes_on() -> None:
    assert added_up(chunks(blocks(LOGS["continued"])))["content"] == "Void text, and on."


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("failed", "upstream_interrupted"),
        ("model_error", "upstream_error"),
        ("stopped", "aborted"),
        ("stopped_waiting", "aborted"),
        ("lost", "lost"),
        ("restarted_and_failed", "worker_lost"),
    ],
)
def test_what_is_not_whole_ends_with_an_error_and_neither_a_finish_nor_done(case: str, code: str) -> None:
    found = blocks(LOGS[case])
    *before, last = chunks(found)
    assert DONE not in found
    assert set(last) == {"error"}
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert last["error"]["code"] == code
    assert all(choice["finish_reason"] is None for chunk in before for choice in chunk.get("choices", []))


def test_a_client_that_has_void_text_is_told_so_and_gets_no_more() -> None:
    found, over = until_last(blocks(LOGS["restarted"]))
    assert over
    *before, last = chunks(list(found))
    assert added_up(before)["content"] == "Void text"
    assert last["error"]["code"] == "answer_restarted"


@pytest.mark.parametrize("case", ["restarted", "restarted_twice"])
def test_a_client_that_comes_later_gets_the_fresh_attempt_alone(case: str) -> None:
    found = fresh(blocks(LOGS[case]))
    assert found[-1] == DONE
    assert added_up(chunks(found)) == {
        "role": "assistant", "content": "Fresh text.", "finish_reason": "stop", "calls": [],
    }  # fmt: skip


def test_an_attempt_that_said_nothing_leaves_no_trace() -> None:
    found = blocks(LOGS["restarted_unseen"])
    assert not until_last(found)[1]
    assert found[:-2] == blocks(LOGS["restarted_unseen"][:1] + LOGS["restarted_unseen"][6:])[:-2]


@given(random_logs(WIRE))
def test_the_stream_adds_up_to_the_whole_object(events: list[ev.Event]) -> None:
    found = fresh(blocks(events))
    message = fold(events)
    if message.state != "done" or failure_of(message) is not None:
        assert "error" in chunks(found)[-1]
        return
    whole = msgspec.to_builtins(chat_completion(message, msgspec.convert(CHAT_OPTIONS, ChatOptions)))
    said = whole["choices"][0]["message"]
    out = added_up(chunks(found))
    assert whole["id"] == CHAT_ID
    assert out["content"] == (said["content"] or "")
    assert out.get("annotations") == said.get("annotations")
    assert out.get("refusal", "") == (said["refusal"] or "")
    assert out.get("reasoning_content", "") == said.get("reasoning_content", "")
    assert out["finish_reason"] == whole["choices"][0]["finish_reason"]
    shown = [
        (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in said.get("tool_calls", [])
    ]
    assert [(call["id"], call["name"], call["arguments"]) for call in out["calls"]] == shown
    assert chunks(found)[-1]["usage"] == whole["usage"]
