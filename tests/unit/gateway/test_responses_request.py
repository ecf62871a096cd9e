"""The Responses API's requests in Chat Completions' words: parameters, tools, input items, and back."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.access.principal import LOCAL
from gateway.openai.openai_errors import ApiError
from gateway.openai.responses_input import InputReader
from gateway.openai.responses_input_items import input_items
from gateway.openai.responses_request import params_for, read_request
from gateway.openai.responses_stored import own_messages
from gateway.services import Services
from shared.errors import InvalidRequest
from shared.jobs import GenerationRequest

Json = dict[str, Any]
WEATHER: Json = {"type": "function", "name": "weather", "description": "d", "parameters": {}, "strict": True}


def refusal(body: Json) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read_request(body)
    assert caught.value.status == 400
    return caught.value


async def read(
    given: str | list[Json], instructions: str | None = None, earlier: list[Json] | None = None
) -> list[Json]:
    """Read input that refers to nothing stored."""
    return await InputReader(cast(Services, None), LOCAL).read(earlier or [], instructions, given)


# -- parameters


def test_known_parameters_go_upstream_under_their_chat_names_and_unknown_ones_as_they_came() -> None:
    asked = read_request(
        {
            "model": "m", "input": "hi", "max_output_tokens": 50, "temperature": 0.5, "top_p": None, "top_k": 3,
            "reasoning": {"effort": "low", "summary": "auto"}, "user": "u", "max_tool_calls": 3,
            "scripted": {"rate": 0}, "stream": True, "store": True,
            "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}},
            "tools": [WEATHER], "tool_choice": {"type": "function", "name": "weather"}, "parallel_tool_calls": False,
            "metadata": {"k": "v"}, "include": ["reasoning.encrypted_content"], "truncation": "auto",
        }
    )  # fmt: skip
    assert asked.params == {
        "max_completion_tokens": 50, "temperature": 0.5, "top_k": 3, "reasoning_effort": "low", "user": "u",
        "scripted": {"rate": 0}, "verbosity": "low", "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": "d", "parameters": {}, "strict": True},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        # What only a Responses API knows.
        "reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"], "truncation": "auto",
        "max_tool_calls": 3,
    }  # fmt: skip
    assert asked.options.declared == {"weather"}
    assert asked.options.metadata == {"k": "v"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"reasoning": {"effort": "low", "generate_summary": "auto"}}, "reasoning.generate_summary"),
        ({"text": {"new": 1}}, "text.new"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_tool_calls": 1}, "max_tool_calls"),
    ],
)
def test_what_chat_completions_has_no_word_for_is_refused_where_that_is_what_the_model_speaks(
    body: Json, param: str
) -> None:
    asked = read_request({"input": "hi", **body})
    params_for(asked, "responses")
    params_for(asked, "agent")
    with pytest.raises(ApiError) as caught:
        params_for(asked, "chat_completions")
    assert (caught.value.status, caught.value.param) == (400, param)


def test_what_only_asks_to_see_more_is_no_reason_to_refuse() -> None:
    """Agent frameworks send these with every request."""
    more = {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low", "summary": "auto"}}
    asked = read_request({"input": "hi", **more})
    assert params_for(asked, "chat_completions") == {"reasoning_effort": "low"}
    assert params_for(asked, "responses")["include"] == ["reasoning.encrypted_content"]


def test_asking_for_the_default_is_asking_for_nothing() -> None:
    asked = read_request(
        {"input": "hi", "truncation": "disabled", "include": [], "reasoning": {"effort": None, "summary": None}}
    )
    assert asked.params == {}
    params_for(asked, "chat_completions")


def test_tool_parameters_are_left_out_where_there_is_no_tool() -> None:
    assert read_request({"input": "hi", "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}).params == {}


def test_allowed_tools() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
    asked = read_request({"input": "hi", "tools": [WEATHER], "tool_choice": choice})
    assert asked.params["tool_choice"] == {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]},
    }


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input[0]"),
        ({"input": "x", "conversation": "conv_1"}, "conversation"),
        ({"input": "x", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "x", "top_logprobs": 2}, "top_logprobs"),
        ({"input": "x", "background": True, "store": False}, "store"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "x", "metadata": {"a": 1}}, "metadata[...]"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "x", "tools": [WEATHER, {"type": "function"}]}, "tools[1].name"),
        ({"input": "x", "tools": [WEATHER], "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"input": "x", "stream": "yes"}, "stream"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(body: Json, param: str) -> None:
    assert refusal(body).param == param


def test_a_parameter_cannot_take_the_place_of_one_of_ours() -> None:
    assert "messages" not in read_request({"input": "x", "messages": [], "n": 4}).params


# -- input


async def test_text_is_a_users_message_behind_the_instructions() -> None:
    assert await read("hi", "Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]


async def test_what_came_before_stands_between_instructions_and_input() -> None:
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert [message["content"] for message in await read("c", "s", before)] == ["s", "a", "b", "c"]


async def test_messages_in_every_form() -> None:
    assert await read(
        [
            {"role": "developer", "content": "d"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"}]},
            {
                "type": "message", "role": "user",
                "content": [
                    {"type": "input_text", "text": "see"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
                    {"type": "input_file", "file_data": "AA", "filename": "a.pdf"},
                ],
            },
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {
                "type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
                "content": [{"type": "output_text", "text": "two", "annotations": []},
                            {"type": "refusal", "refusal": " no"}],
            },
        ]
    ) == [
        {"role": "system", "content": "d"},
        {"role": "user", "content": "one"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
                {"type": "file", "file": {"file_data": "AA", "filename": "a.pdf"}},
            ],
        },
        {"role": "assistant", "content": "two no"},
    ]  # fmt: skip


async def test_calls_that_follow_each_other_are_one_assistants_and_join_the_text_before_them() -> None:
    def call(name: str) -> Json:
        return {"type": "function_call", "call_id": name, "name": "weather", "arguments": "{}"}

    def answer(name: str) -> Json:
        return {"type": "function_call_output", "call_id": name, "output": [{"type": "input_text", "text": name}]}

    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "wait"}]
    found = await read([*said, call("a"), call("b"), answer("a"), answer("b"), call("c"), answer("c")])
    assert [(m["role"], m["content"], [c["id"] for c in m.get("tool_calls", [])]) for m in found] == [
        ("user", "q", []),
        ("assistant", "wait", ["a", "b"]),
        ("tool", "a", []),
        ("tool", "b", []),
        ("assistant", None, ["c"]),
        ("tool", "c", []),
    ]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "web_search_call"}, "input[0]"),
        ({"role": "robot", "content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[0].content[0]"),
        ({"role": "user", "content": ["x"]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
        ({"type": "function_call", "call_id": "c", "name": 5, "arguments": "{}"}, "input[0].name"),
        ({"type": "item_reference", "id": "msg_of_somebody_else"}, "input[0]"),
    ],
)
async def test_input_that_has_no_words_upstream_is_refused_by_place(item: Json, param: str) -> None:
    with pytest.raises((ApiError, InvalidRequest)) as caught:
        await read([item])
    assert getattr(caught.value, "param", None) == param


# -- and back


async def test_what_was_read_is_shown_as_items_again() -> None:
    given: list[Json] = [
        {"role": "user", "content": "q"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "a"},
                {"type": "input_image", "image_url": "u", "detail": "auto"},
            ],
        },
        {"role": "assistant", "content": "wait"},
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sun"},
    ]
    messages = await read(given, "Be brief.")
    request = GenerationRequest("m", messages, wire="responses", options={"instructions": "Be brief."})
    assert own_messages(request) == messages[1:]
    items = input_items(request, "resp_ab")
    assert [item["id"] for item in items] == ["msg_ab_in0", "msg_ab_in1", "msg_ab_in2", "fc_ab_in3", "fco_ab_in4"]
    assert await read(items) == messages[1:]
