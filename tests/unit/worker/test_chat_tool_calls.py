"""Tool calls over Chat Completions: one event each, in whatever pieces, under whatever indexes and names they come."""

from __future__ import annotations

from typing import Any

import pytest

from shared import events as ev
from tests.unit.worker.conftest import Caller
from tests.unit.worker.raw_server import DONE, STOP, chunk, raw_server
from tests.unit.worker.test_chat_completions import finish, whole
from worker.upstreams.tool_calls import tool_input


def tool(index: int | None, call_id: str | None, name: str | None, arguments: str, **more: Any) -> dict[str, Any]:
    call: dict[str, Any] = {"index": index, "id": call_id, **more}
    function = {"name": name, "arguments": arguments}
    call["function"] = {key: value for key, value in function.items() if value is not None}
    return {key: value for key, value in call.items() if value is not None}


TWO_CALLS = {
    "usual": [
        [tool(0, "c0", "f", "", type="function")],
        [tool(0, None, None, '{"a"')],
        [tool(0, None, None, ":1}")],
        [tool(1, "c1", "g", "")],
        [tool(1, None, None, "{}")],
    ],
    "id and name in every piece": [
        [tool(0, "c0", "f", '{"a"', type="function")],
        [tool(0, "c0", "f", ":1}", type="function")],
        [tool(1, "c1", "g", "{}", type="function")],
    ],
    "whole, in one delta": [[tool(0, "c0", "f", '{"a":1}'), tool(1, "c1", "g", "")]],
    "whole, without indexes": [[tool(None, "c0", "f", '{"a":1}'), tool(None, "c1", "g", "{}")]],
    "whole, all under index 0": [[tool(0, "c0", "f", '{"a":1}')], [tool(0, "c1", "g", "{}")]],
    "another id in every piece": [
        [tool(0, "c0", "f", "")],
        [tool(0, "x1", None, '{"a"')],
        [tool(0, "x2", None, ":1}")],
        [tool(1, "c1", "g", "")],
        [tool(1, "x3", None, "{}")],
    ],
    "name after the id": [
        [tool(0, "c0", None, "")],
        [tool(0, None, "f", '{"a":1}')],
        [tool(1, "c1", "g", "{}")],
    ],
}


@pytest.mark.parametrize("name", TWO_CALLS)
async def test_tool_calls_come_out_the_same_in_every_form(caller: Caller, name: str) -> None:
    chunks = [chunk({"tool_calls": calls}) for calls in TWO_CALLS[name]]
    async with raw_server(whole(*chunks, chunk(finish_reason="tool_calls"), DONE)) as server:
        events = await caller.call(caller.upstream(server.url))
    starts = [event for event in events if isinstance(event, ev.ToolInputStart)]
    assert starts == [ev.ToolInputStart("c0", "f"), ev.ToolInputStart("c1", "g")]
    assert events[-3:] == [
        ev.ToolInputAvailable("c0", "f", {"a": 1}),
        ev.ToolInputAvailable("c1", "g", {}),
        ev.Finish("tool-calls"),
    ]


@pytest.mark.parametrize("indexes", [(0, 0, 0), (None, None, None), (0, 1, 2)])
@pytest.mark.parametrize("call_id", ["", None, "null"])
async def test_whole_calls_without_ids_of_their_own_are_as_many_as_they_are(
    caller: Caller, indexes: tuple[int | None, ...], call_id: str | None
) -> None:
    """Google's server, and gateways before it: a chunk a call, the same index in all, the id empty or left out."""
    texts = ['{"city":"Ghent"}', '{"city":"Bruges"}', "{}"]
    calls = [tool(index, call_id, "weather", text) for index, text in zip(indexes, texts, strict=True)]
    chunks = [chunk({"tool_calls": [call]}) for call in calls]
    async with raw_server(whole(*chunks, STOP, DONE)) as server:
        events = await caller.call(caller.upstream(server.url))
    told = [event for event in events if isinstance(event, ev.ToolInputAvailable)]
    assert [call.input for call in told] == [{"city": "Ghent"}, {"city": "Bruges"}, {}]
    assert len({call.tool_call_id for call in told}) == 3


async def test_a_piece_under_an_index_that_named_no_call_goes_on_with_the_last_one(caller: Caller) -> None:
    """A gateway in front of DeepSeek: the second call begins under the first one's index and goes on under its own."""
    pieces = [tool(0, "c0", "f", '{"a":1}'), tool(0, "c1", "g", ""), tool(1, None, None, '{"b":2}')]
    async with raw_server(whole(*(chunk({"tool_calls": [piece]}) for piece in pieces), STOP, DONE)) as server:
        events = await caller.call(caller.upstream(server.url))
    calls = [event for event in events if isinstance(event, ev.ToolInputAvailable)]
    assert [(call.tool_call_id, call.input) for call in calls] == [("c0", {"a": 1}), ("c1", {"b": 2})]


async def test_what_a_model_wants_back_with_a_call_is_kept_with_it(caller: Caller) -> None:
    """Google's models refuse a conversation in which the signature of a call is missing."""
    signed = {"google": {"thought_signature": "CiQB"}}
    calls = [tool(0, "c0", "f", "{}", extra_content=signed), tool(1, "c1", "f", "{}", extra_content={"google": "odd"})]
    async with raw_server(whole(chunk({"tool_calls": calls}), STOP, DONE)) as server:
        events = await caller.call(caller.upstream(server.url))
    assert [event for event in events if isinstance(event, ev.ToolInputStart)] == [
        ev.ToolInputStart("c0", "f", signed), ev.ToolInputStart("c1", "f"),
    ]  # fmt: skip
    assert events[-3:-1] == [ev.ToolInputAvailable("c0", "f", {}, signed), ev.ToolInputAvailable("c1", "f", {})]


async def test_a_name_that_comes_with_every_piece_is_one_call(caller: Caller) -> None:
    pieces = [tool(0, None, "f", text) for text in ('{"a"', ":1}", "")]
    async with raw_server(whole(*(chunk({"tool_calls": [piece]}) for piece in pieces), STOP, DONE)) as server:
        events = await caller.call(caller.upstream(server.url))
    [call] = [event for event in events if isinstance(event, ev.ToolInputAvailable)]
    assert (call.tool_name, call.input) == ("f", {"a": 1})


async def test_tool_input_that_is_no_json_is_told_as_such(caller: Caller) -> None:
    body = whole(chunk({"tool_calls": [tool(0, "c", "f", '{"a":')]}), chunk(finish_reason="length"), DONE)
    async with raw_server(body) as server:
        events = await caller.call(caller.upstream(server.url))
    assert isinstance(events[-2], ev.ToolInputError)
    assert events[-2].input == '{"a":'
    assert finish(events) == "length"


@pytest.mark.parametrize("text", ["[" * 3_000, "[" * 3_000 + "]" * 3_000, "[" * 200 + "]" * 200])
def test_tool_input_that_is_nested_too_deeply_is_told_as_such(text: str) -> None:
    told = tool_input("c", "n", text)
    assert isinstance(told, ev.ToolInputError)
    assert told.input == text
    assert isinstance(tool_input("c", "n", "[" * 199 + "]" * 199), ev.ToolInputAvailable)


async def test_calls_that_end_with_stop_end_for_them(caller: Caller) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
    async with raw_server(whole(chunk({"tool_calls": [call]}), STOP, DONE)) as server:
        assert finish(await caller.call(caller.upstream(server.url))) == "tool-calls"
