"""The Responses upstream over a real socket: forms, failures, attaching again, cancelling."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from shared import events as ev
from shared.jobs import GenerationRequest
from tests.support.wait import wait_until
from tests.unit.worker.conftest import Caller, Kept, said, thought
from tests.unit.worker.raw_server import HEAD, raw_server, sse, status
from worker.upstreams.base import UpstreamError

REQUEST = GenerationRequest("m", [{"role": "user", "content": "hi"}])
USAGE = {"input_tokens": 3, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 7}


def event(kind: str, number: int | None = None, **more: Any) -> bytes:
    body = {"type": f"response.{kind}", **more}
    return sse(body if number is None else {**body, "sequence_number": number})


def text(delta: str, number: int | None = None) -> bytes:
    return event("output_text.delta", number, item_id="msg", content_index=0, delta=delta)


CREATED = event("created", 0, response={"id": "resp_1", "status": "in_progress"})
COMPLETED = event("completed", 9, response={"id": "resp_1", "status": "completed", "usage": USAGE})


async def call(caller: Caller, *parts: bytes, **spec: Any) -> list[ev.Event]:
    async with raw_server([HEAD, *parts]) as server:
        return await caller.call(caller.upstream(server.url, kind="responses", **spec))


async def test_text_reasoning_and_usage(caller: Caller) -> None:
    events = await call(
        caller,
        CREATED,
        event("reasoning_text.delta", 1, delta="hm"),
        event("reasoning_summary_text.delta", 2, delta="the same in short"),
        text("Hel", 3),
        text("lo", 4),
        event("output_text.done", 5, item_id="msg", content_index=0, text="Hello"),
        COMPLETED,
    )
    assert (thought(events), said(events), events[-1]) == ("hm", "Hello", ev.Finish("stop"))
    assert caller.usage == ev.Usage(3, 4, 7, 1, 0)
    assert not any(isinstance(e, ev.Upstream) for e in events)


async def test_a_refusal_is_a_part_that_says_so(caller: Caller) -> None:
    place = {"item_id": "msg", "content_index": 0}
    events = await call(
        caller,
        CREATED,
        event("refusal.delta", 1, delta="I will ", **place),
        event("refusal.delta", 2, delta="not.", **place),
        event("refusal.done", 3, refusal="I will not.", **place),
        COMPLETED,
    )
    assert events[1:-1] == [
        ev.TextStart("refusal", refusal=True), ev.TextDelta("refusal", "I will "), ev.TextDelta("refusal", "not."),
    ]  # fmt: skip


async def test_a_refusal_that_is_told_only_whole(caller: Caller) -> None:
    events = await call(caller, event("refusal.done", refusal="No."), event("completed", response={}))
    assert said(events) == "No."


async def test_servers_that_leave_out_numbers_indexes_and_deltas(caller: Caller) -> None:
    parts = [event("output_text.done", text="whole"), event("completed", response={}), b"data: [DONE]\n\n"]
    events = await call(caller, *parts)
    assert (said(events), events[-1]) == ("whole", ev.Finish("stop"))


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"a":1}'}
CALLED = [ev.ToolInputStart("call_1", "look"), ev.ToolInputAvailable("call_1", "look", {"a": 1})]


def part_end(whole: str, item_id: str | None = None) -> bytes:
    place: dict[str, Any] = {} if item_id is None else {"item_id": item_id, "content_index": 0}
    return event("output_text.done", text=whole, **place)


def piece(delta: str, item_id: str | None = None) -> bytes:
    place: dict[str, Any] = {} if item_id is None else {"item_id": item_id, "content_index": 0}
    return event("output_text.delta", delta=delta, **place)


PARTS = {
    "names that differ": [piece("one ", "chunk-1"), piece("two", "chunk-1"), part_end("one two", "msg_9")],
    "a name a piece": [piece("one ", "chunk-1"), piece("two", "chunk-2"), part_end("one two", "msg_9")],
    "ends that come together": [piece("one ", "a"), piece("two", "b"), part_end("one ", "a"), part_end("two", "b")],
    "ends that come together without names": [piece("one "), piece("two"), part_end("one "), part_end("two")],
    "an end that comes twice": [piece("one two", "a"), part_end("one two", "a"), part_end("one two", "a")],
    "a part that is all in its end": [piece("one ", "a"), part_end("one ", "a"), part_end("two", "b")],
    "the same without names": [piece("one "), part_end("one "), part_end("two")],
    "an end with more than its pieces": [piece("one ", "a"), part_end("one two", "a")],
}


@pytest.mark.parametrize("name", PARTS)
async def test_a_text_is_told_once_whatever_its_part_is_called(caller: Caller, name: str) -> None:
    """LiteLLM gives every event of a part another name; its pieces and its end are one text all the same."""
    assert said(await call(caller, *PARTS[name], event("completed", response={}))) == "one two"


async def test_what_comes_only_with_the_end_is_told_with_it(caller: Caller) -> None:
    output = [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}], "summary": []},
        {
            "type": "message",
            "content": [{"type": "output_text", "text": "Hello"}, {"type": "refusal", "refusal": "No."}],
        },
        {"type": "web_search_call", "id": "ws_1"},
        CALL,
    ]
    events = await call(caller, CREATED, event("completed", response={"status": "completed", "output": output}))
    assert events == [
        ev.ReasoningDelta("", "hm"), ev.TextDelta("", "Hello"),
        ev.TextEnd(""), ev.TextStart("refusal", refusal=True), ev.TextDelta("refusal", "No."),
        *CALLED, ev.Finish("tool-calls"),
    ]  # fmt: skip


async def test_a_call_that_comes_only_with_the_end_is_told_behind_the_text(caller: Caller) -> None:
    message = {"type": "message", "content": [{"type": "output_text", "text": "Look: "}]}
    last = event("completed", response={"status": "completed", "output": [message, CALL]})
    assert await call(caller, piece("Look: ", "m"), last) == [
        ev.TextDelta("", "Look: "), *CALLED, ev.Finish("tool-calls"),
    ]  # fmt: skip


async def test_a_call_is_told_once_though_the_end_calls_it_otherwise(caller: Caller) -> None:
    last = event("completed", response={"output": [{**CALL, "id": "fc_9", "call_id": "call_9"}]})
    assert await call(caller, event("output_item.done", item=CALL), last) == [*CALLED, ev.Finish("tool-calls")]


async def test_a_call_whose_item_is_never_done_has_its_input_all_the_same(caller: Caller) -> None:
    added = event("output_item.added", item={**CALL, "arguments": ""})
    done = event("function_call_arguments.done", item_id="fc_1", arguments='{"a":1}')
    assert await call(caller, added, done, event("completed", response={})) == [*CALLED, ev.Finish("tool-calls")]


async def test_calls_that_only_their_call_ids_name_are_told_apart(caller: Caller) -> None:
    """llama.cpp's server: items without ids, pieces named after the call."""
    parts: list[bytes] = []
    for call_id, value in (("fc_1", "1"), ("fc_2", "2")):
        item = {"type": "function_call", "call_id": call_id, "name": "look"}
        parts.append(event("output_item.added", item={**item, "arguments": ""}))
        parts += [
            event("function_call_arguments.delta", item_id=call_id, delta=delta) for delta in ('{"a":', value, "}")
        ]
    done = [
        event("output_item.done", item={
            "type": "function_call", "call_id": f"fc_{n}", "name": "look", "arguments": f'{{"a":{n}}}',
        })
        for n in (1, 2)
    ]  # fmt: skip
    events = await call(caller, *parts, *done, event("completed", response={}))
    told = [e for e in events if isinstance(e, ev.ToolInputAvailable)]
    assert told == [ev.ToolInputAvailable("fc_1", "look", {"a": 1}), ev.ToolInputAvailable("fc_2", "look", {"a": 2})]
    written = [e.input_text_delta for e in events if isinstance(e, ev.ToolInputDelta) and e.tool_call_id == "fc_2"]
    assert "".join(written) == '{"a":2}'


@pytest.mark.parametrize("pieces", [['{"a"', ":"], ["{", '"a":1}'], []])
async def test_pieces_of_a_calls_input_add_up_to_it(caller: Caller, pieces: list[str]) -> None:
    """llama.cpp's server gives the last of it only with the whole; clients that add pieces up need that too."""
    added = event("output_item.added", item={**CALL, "arguments": ""})
    deltas = [event("function_call_arguments.delta", item_id="fc_1", delta=piece) for piece in pieces]
    events = await call(caller, added, *deltas, event("output_item.done", item=CALL), event("completed", response={}))
    written = "".join(e.input_text_delta for e in events if isinstance(e, ev.ToolInputDelta))
    assert written in ("", '{"a":1}')
    assert bool(written) == bool(pieces)
    assert events[-2] == CALLED[-1]


async def test_a_call_that_is_never_said_to_be_over_is_over_with_the_answer(caller: Caller) -> None:
    added = event("output_item.added", item={**CALL, "arguments": ""})
    delta = event("function_call_arguments.delta", item_id="fc_1", delta='{"a":1}')
    events = await call(caller, added, delta, event("completed", response={"output": []}))
    assert events[-2:] == [CALLED[-1], ev.Finish("tool-calls")]


@pytest.mark.parametrize("arguments", ["", None, {"a": 1}])
async def test_a_call_whose_end_lacks_its_text_has_its_input(caller: Caller, arguments: object) -> None:
    added = event("output_item.added", item={**CALL, "arguments": ""})
    delta = event("function_call_arguments.delta", item_id="fc_1", delta='{"a":1}')
    done = event("output_item.done", item={**CALL, "arguments": arguments})
    assert (await call(caller, added, delta, done, event("completed", response={})))[-2] == CALLED[-1]


@pytest.mark.parametrize("status_name", ["completed", "queued"])
async def test_a_server_that_does_not_stream_is_called_once(caller: Caller, status_name: str) -> None:
    body = {
        "id": "resp_1",
        "object": "response",
        "status": status_name,
        "error": None,
        "output": [CALL],
        "usage": USAGE,
    }
    async with raw_server(status(200, json.dumps(body).encode())) as server:
        if status_name == "completed":
            events = await caller.call(caller.upstream(server.url, kind="responses"))
            assert events == [*CALLED, ev.Finish("tool-calls")]
            assert caller.usage == ev.Usage(3, 4, 7, 1, 0)
        else:
            with pytest.raises(UpstreamError) as caught:
                await caller.call(caller.upstream(server.url, kind="responses"))
            assert caught.value.code == "upstream_error"
    assert len(server.requests) == 1


async def test_keepalives_and_unknown_events_say_nothing(caller: Caller) -> None:
    parts = [sse({"type": "keepalive", "sequence_number": 0}), CREATED, event("brand_new", 1), text("x"), COMPLETED]
    assert said(await call(caller, *parts)) == "x"


async def test_tool_calls(caller: Caller) -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look"}
    events = await call(
        caller,
        event("output_item.added", 1, output_index=0, item={**item, "arguments": ""}),
        event("function_call_arguments.delta", 2, item_id="fc_1", delta='{"a"'),
        event("function_call_arguments.delta", 3, item_id="fc_1", delta=":1}"),
        event("output_item.done", 4, output_index=0, item={**item, "arguments": '{"a":1}'}),
        COMPLETED,
    )
    assert events == [
        ev.ToolInputStart("call_1", "look"),
        ev.ToolInputDelta("call_1", '{"a"'),
        ev.ToolInputDelta("call_1", ":1}"),
        ev.ToolInputAvailable("call_1", "look", {"a": 1}),
        ev.Finish("tool-calls"),
    ]


@pytest.mark.parametrize(
    ("reason", "expected"), [("max_output_tokens", "length"), ("content_filter", "content-filter"), ("?", "length")]
)
async def test_an_incomplete_response_says_why(caller: Caller, reason: str, expected: str) -> None:
    last = event("incomplete", response={"status": "incomplete", "incomplete_details": {"reason": reason}})
    events = await call(caller, text("x"), last)
    assert events[-1] == ev.Finish(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (b"", "upstream_interrupted"),
        (event("failed", response={"error": {"code": "server_error", "message": "x"}}), "upstream_error"),
        (sse({"type": "error", "code": "server_error", "message": "x", "param": None}), "upstream_error"),
        (sse({"type": "error", "error": {"type": "invalid_request_error", "message": "x"}}), "upstream_rejected"),
        (sse({"error": {"message": "Rate limit reached"}}), "upstream_rate_limited"),
        (event("incomplete", response={"status": "cancelled"}), "upstream_interrupted"),
        (b"data: nonsense\n\n", "upstream_error"),
        (b"data: " + b"[" * 3_000 + b"\n\n", "upstream_error"),
    ],
)
async def test_failures_in_mid_stream(caller: Caller, last: bytes, code: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await call(caller, CREATED, text("x"), last)
    assert caught.value.code == code
    assert said(caller.events) == "x"


async def test_a_background_run_is_read_on_after_a_break_from_where_it_was(caller: Caller) -> None:
    first = [HEAD, CREATED, text("one ", 1)]
    second = [HEAD, text("two ", 2), text("three", 3), COMPLETED]
    async with raw_server(first, second) as server:
        events = await caller.call(caller.upstream(server.url, kind="responses", background=True))
    assert said(events) == "one two three"
    assert events[0] == ev.Upstream("resp_1")
    assert server.bodies[0]["background"] is True
    assert server.requests[1].startswith(b"GET /v1/responses/resp_1?")
    assert b"starting_after=1" in server.requests[1]


@pytest.mark.parametrize("numbers", [range(9), [None] * 9, [0] * 9, [0, 1, None, 3, 4, 5]], ids=str)
async def test_a_run_that_is_replayed_after_each_break_is_told_once(
    caller: Caller, numbers: Sequence[int | None]
) -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}"}
    whole = [
        event("created", numbers[0], response={"id": "resp_1"}),
        text("one ", numbers[1]),
        text("two ", numbers[2]),
        event("output_item.done", numbers[3], item=item),
        text("three", numbers[4]),
        event("completed", numbers[5], response={"id": "resp_1", "status": "completed"}),
    ]
    async with raw_server([HEAD, *whole[:3]], [HEAD, *whole[:2]], [HEAD, *whole[:4]], [HEAD, *whole]) as server:
        events = await caller.call(caller.upstream(server.url, kind="responses", background=True))
    assert said(events) == "one two three"
    assert [e for e in events if isinstance(e, ev.ToolInputStart)] == [ev.ToolInputStart("call_1", "look")]
    assert (events[0], events[-1]) == (ev.Upstream("resp_1"), ev.Finish("tool-calls"))


async def test_a_run_without_numbers_that_fails_after_a_break_says_so(caller: Caller) -> None:
    failed = [HEAD, sse({"type": "error", "code": "server_error", "message": "x"})]
    async with raw_server([HEAD, event("created", response={"id": "resp_1"}), text("x")], failed) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url, kind="responses", background=True))
    assert caught.value.code == "upstream_error"


async def test_a_run_that_was_cancelled_upstream_is_not_attached_to_again(caller: Caller) -> None:
    last = event("incomplete", 2, response={"id": "resp_1", "status": "cancelled"})
    async with raw_server([HEAD, CREATED, text("x", 1), last], hold_open=True) as server:
        with pytest.raises(UpstreamError) as caught:
            await caller.call(caller.upstream(server.url, kind="responses", background=True))
    assert (caught.value.code, caught.value.retryable) == ("upstream_interrupted", False)
    assert not [request for request in server.requests if request.startswith(b"GET")]


async def test_a_run_known_from_before_is_attached_to_from_its_beginning(caller: Caller) -> None:
    async with raw_server([HEAD, CREATED, text("x", 1), COMPLETED]) as server:
        upstream = caller.upstream(server.url, kind="responses", background=True)
        sink = Kept()
        await upstream(REQUEST, caller.make_context(upstream_id="resp_1"), sink)
    assert said(sink.events) == "x"
    assert server.requests[0].startswith(b"GET /v1/responses/resp_1?stream=true")
    assert b"starting_after" not in server.requests[0]


async def test_a_run_that_is_gone_is_a_refusal(caller: Caller) -> None:
    async with raw_server(status(404)) as server:
        upstream = caller.upstream(server.url, kind="responses", background=True)
        context = caller.make_context(upstream_id="resp_1", keep_upstream=True)
        with pytest.raises(UpstreamError) as caught:
            await upstream(REQUEST, context, Kept())
    assert caught.value.code == "upstream_rejected"


@pytest.mark.parametrize("keep", [True, False])
async def test_a_background_run_is_cancelled_when_nobody_will_attach_to_it(caller: Caller, keep: bool) -> None:
    async with raw_server([HEAD, CREATED, text("x", 1)], hold_open=True) as server:
        upstream = caller.upstream(server.url, kind="responses", background=True)
        context = caller.make_context(keep_upstream=keep)
        sink = Kept()
        call = asyncio.create_task(upstream(REQUEST, context, sink))
        await wait_until(lambda: said(sink.events) == "x")
        call.cancel()
        await asyncio.wait({call})
        await wait_until(lambda: server.closed_by_client >= 1)
    cancels = [request for request in server.requests if request.startswith(b"POST /v1/responses/resp_1/cancel")]
    assert len(cancels) == (0 if keep else 1)


@pytest.mark.parametrize("kind", ["chat_completions", "responses"])
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_where_a_redirect_leads_is_never_asked(caller: Caller, kind: str, code: int) -> None:
    async with raw_server([HEAD, CREATED, COMPLETED]) as elsewhere:
        async with raw_server(status(code, b"", b"Location: " + elsewhere.url.encode() + b"/responses")) as server:
            with pytest.raises(UpstreamError) as caught:
                await caller.call(caller.upstream(server.url, kind=kind))
        assert caught.value.code == "upstream_error"
        assert (len(server.requests), len(elsewhere.requests)) == (1, 0)
