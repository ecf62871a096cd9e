"""Chat Completions requests: what goes upstream, what is ours, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.openai.chat_request import read_request
from gateway.openai.openai_errors import ApiError

Json = dict[str, Any]
ASK: list[Json] = [{"role": "user", "content": "hi", "name": "ann"}]


def test_everything_that_is_not_ours_goes_upstream_as_it_came() -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    asked = read_request(
        {
            "model": "m", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}, "n": 1,
            "temperature": 0.1, "top_k": 5, "seed": None, "tools": tools, "response_format": {"type": "json_object"},
            "metadata": {"a": "b"}, "store": True, "logprobs": False, "scripted": {"rate": 0},
        }
    )  # fmt: skip
    assert asked.stream
    assert asked.generation.messages == ASK
    assert asked.generation.params == {
        "temperature": 0.1, "top_k": 5, "tools": tools, "response_format": {"type": "json_object"},
        "scripted": {"rate": 0},
    }  # fmt: skip
    assert asked.generation.metadata == {"a": "b"}
    assert asked.generation.options == {"include_usage": True, "tools": ["weather"]}
    assert asked.generation.wire == "chat_completions"


@pytest.mark.parametrize("body", [{"stream": False}, {"stream": None}, {}, {"n": None}, {"stream_options": None}])
def test_a_null_is_as_good_as_nothing(body: Json) -> None:
    asked = read_request({"messages": ASK, **body})
    assert not asked.stream
    assert asked.generation.params == {}
    assert asked.generation.model == ""


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages"),
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"n": "1"}, "n"),
        ({"stream": "true"}, "stream"),
        ({"model": 5}, "model"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": []}, "functions"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(body: Json, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_request({"messages": ASK, **body})
    assert (caught.value.status, caught.value.param) == (400, param)


def test_messages_are_required() -> None:
    with pytest.raises(ApiError, match="Missing required parameter"):
        read_request({"model": "m"})
