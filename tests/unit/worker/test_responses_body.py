"""A request in the form of the Responses API: every part, option and parameter under its name there."""

from __future__ import annotations

from typing import Any

import pytest

from shared.jobs import GenerationRequest
from tests.unit.worker.conftest import Caller, Kept
from tests.unit.worker.raw_server import HEAD, raw_server
from tests.unit.worker.test_responses import COMPLETED, CREATED, text
from worker.upstreams.responses_input import responses_body


def test_a_chat_request_in_the_form_of_responses() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    request = GenerationRequest(
        "m",
        [
            {"role": "system", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "https://x"}}],
            },
            {"role": "assistant", "content": None, "reasoning_content": "not known there", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "out"},
        ],
        {
            "max_tokens": 5,
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
            "reasoning_effort": "low",
            "stream": False,
            "brand_new": 1,
        },
    )
    assert responses_body(request) == {
        "store": False,
        "input": [
            {"role": "system", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "https://x"}],
            },
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "out"},
        ],
        "max_output_tokens": 5,
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": False}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {}}},
        "reasoning": {"effort": "low"},
        "brand_new": 1,
    }


def test_what_both_apis_have_under_other_names_is_translated() -> None:
    named = {"type": "function", "function": {"name": "f"}}
    params = {
        "verbosity": "low",
        "reasoning": {"summary": "auto", "effort": "high"},
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
        "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}},
        "modalities": ["text"],
        "include": ["reasoning.encrypted_content"],
        "truncation": "auto",
        "max_tool_calls": 3,
    }
    assert responses_body(GenerationRequest("m", [], params)) == {
        "input": [],
        "store": False,
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "reasoning": {"summary": "auto", "effort": "low"},
        "tools": [{"type": "function", "name": "f", "strict": True}],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        "include": ["reasoning.encrypted_content"],
        "truncation": "auto",
        "max_tool_calls": 3,
    }


def test_parts_of_every_kind_are_translated() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}}
    file = {"type": "file", "file": {"file_data": "AA", "filename": "a.pdf"}}
    audio = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
    seen = [
        {"type": "input_image", "image_url": "https://x", "detail": "low"},
        {"type": "input_file", "file_data": "AA", "filename": "a.pdf"},
        audio,
    ]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [image, file, audio]},
        {"role": "tool", "tool_call_id": "c1", "content": [image]},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]
    assert responses_body(GenerationRequest("m", messages))["input"] == [
        {"role": "user", "content": seen},
        {"type": "function_call_output", "call_id": "c1", "output": seen[:1]},
        {"type": "function_call_output", "call_id": "c2", "output": "a"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]


@pytest.mark.parametrize(
    ("wire", "options", "stored"),
    [
        ("responses", {}, True), ("responses", {"store": False}, False), ("chat_completions", {}, False),
        ("native", {}, False), ("ui", {}, False),
    ],
)  # fmt: skip
async def test_the_model_keeps_an_answer_only_for_who_would_have_had_it_kept(
    caller: Caller, wire: str, options: dict[str, Any], stored: bool
) -> None:
    request = GenerationRequest("m", [{"role": "user", "content": "hi"}], wire=wire, options=options)
    async with raw_server([HEAD, CREATED, text("x", 1), COMPLETED]) as server:
        await caller.upstream(server.url, kind="responses")(request, caller.make_context(), Kept())
        # In the background there is no other way to attach to it again.
        upstream = caller.upstream(server.url, kind="responses", background=True)
        await upstream(request, caller.make_context(), Kept())
    assert [body.get("store", True) for body in server.bodies] == [stored, True]


@pytest.mark.parametrize("call", ["x", None, 5, [], {}, {"function": "x"}, {"function": None}])
def test_what_is_no_call_is_for_the_api_to_refuse(call: object) -> None:
    """It is a user's mistake, not the agent's."""
    messages: list[dict[str, Any]] = [{"role": "assistant", "tool_calls": [call]}]
    [item] = responses_body(GenerationRequest("m", messages))["input"]
    assert item == {"type": "function_call", "call_id": "", "name": "", "arguments": ""}


@pytest.mark.parametrize(("wire", "strict"), [("chat_completions", {"strict": False}), ("responses", {})])
def test_a_function_is_as_strict_as_where_it_was_declared(wire: str, strict: dict[str, bool]) -> None:
    tools = [{"type": "function", "function": {"name": "f", "strict": None}}]
    if wire == "responses":
        del tools[0]["function"]["strict"]  # type: ignore[attr-defined]
    body = responses_body(GenerationRequest("m", [], {"tools": tools}, wire))
    assert body["tools"] == [{"type": "function", "name": "f", **strict}]
