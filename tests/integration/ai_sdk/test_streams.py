"""The AI SDK's streams over HTTP: where each viewer begins, what is void, and what is delivered once."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from gateway.access.principal import LOCAL
from shared import events as ev
from tests.support.gateway import LiveGateway, running, started
from tests.support.ui_chat import CLOSED, TEXT, VOID, UiChat, kinds, received, user
from tests.support.wait import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_send_is_answered_by_the_whole_stream(chat: UiChat) -> None:
    ref = await chat.whole()
    response, events = await chat.answered()
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert response.headers["x-workflow-run-id"].startswith(f"run.0.{chat.chat_id}.")
    assert events[0].chunk == {"type": "start", "messageId": ref.message_id}
    assert kinds(events) == [
        *("start", "start-step", "text-start", "text-delta", "text-delta", "text-delta", "text-end"),
        *("finish-step", "finish", "[DONE]"),
    ]


async def test_cut_behind_any_chunk_the_rest_is_the_same_on_the_other_gateway(
    chat: UiChat, other: httpx.AsyncClient
) -> None:
    await chat.whole()
    _, events = await chat.answered()
    for number, event in enumerate(events[:-2]):
        assert event.id is not None
        for how in ({"headers": {"last-event-id": event.id}}, {"params": {"after": event.id}}):
            rest = await other.get(f"{chat.url}/stream", **how)  # type: ignore[arg-type]
            assert received(rest.text) == events[number + 1 :]
        run = (await chat.answered())[0].headers["x-workflow-run-id"]
        for name in (run, chat.chat_id):
            counted = await other.get(f"/api/chat/{name}/stream", params={"startIndex": number + 1})
            assert received(counted.text) == events[number + 1 :]
    last = events[-2].id
    assert last is not None
    assert (await other.get(f"{chat.url}/stream", headers={"last-event-id": last})).status_code == 204


async def test_a_cut_in_mid_answer_resumes_live(chat: UiChat, other: httpx.AsyncClient) -> None:
    await chat.post()
    await chat.write(*TEXT)
    at = UiChat(other, chat.log, chat.link, chat.chat_id)
    reading = asyncio.create_task(at.get())
    await chat.write(*CLOSED)
    await chat.end()
    assert (await reading)[1] == (await chat.answered())[1]


async def test_a_finished_answer_is_delivered_once(chat: UiChat) -> None:
    await chat.whole()
    await chat.answered()
    await chat.outlive_grace()
    response, events = await chat.get()
    assert (response.status_code, events, "content-length" in response.headers) == (204, [], False)


async def test_an_end_that_nobody_got_is_delivered_and_then_done_with(chat: UiChat, other: httpx.AsyncClient) -> None:
    await chat.client.post(f"/chats/{chat.chat_id}/messages", json={"messages": [{"role": "user", "content": "x"}]})
    late = UiChat(other, chat.log, chat.link, chat.chat_id)
    await late.adopt()
    await late.write(*TEXT, *CLOSED)
    await late.end()
    _, events = await late.get()
    assert kinds(events)[-2:] == ["finish", "[DONE]"]
    await late.outlive_grace()
    assert (await late.get())[0].status_code == 204


async def test_nothing_in_a_chat_is_204_for_all_who_can_be_told(chat: UiChat) -> None:
    assert (await chat.get())[0].status_code == 204
    response, events = await chat.get("?startIndex=0")
    assert (response.status_code, kinds(events)) == (200, ["finish", "[DONE]"])


async def test_a_stopped_answer_is_not_delivered_again(chat: UiChat) -> None:
    await chat.post()
    await chat.write(*TEXT)
    stopped = (await chat.client.post(f"{chat.url}/stop")).json()
    assert stopped["stopped"] is True
    await chat.write(ev.TextEnd("t0"), ev.FinishStep(), ev.Abort())
    await chat.end("aborted")
    assert kinds((await chat.answered())[1])[-5:] == ["text-end", "finish-step", "abort", "finish", "[DONE]"]
    assert (await chat.get())[0].status_code == 204
    assert (await chat.client.post(f"{chat.url}/stop")).json() == {"stopped": False, "state": None, "message_id": None}


async def test_a_stop_of_another_stream_is_ignored(chat: UiChat) -> None:
    ref = await chat.post()
    run = f"run.0.{chat.chat_id}.{ref.message_id}"
    for wanted, stopped in (
        ("msg_other", False),
        (f"run.0.{chat.chat_id}.msg_other", False),
        (run, True),
        (ref.message_id, True),
    ):
        answer = await chat.client.post(f"{chat.url}/stop", json={"activeStreamId": wanted, "assistantMessage": {}})
        assert answer.json()["stopped"] is stopped


async def test_a_stop_of_the_chat_stops_all_that_is_in_flight(chat: UiChat, client: httpx.AsyncClient) -> None:
    writer = await running(client, chat.log, chat.chat_id, "a")
    for message in "bcd":
        await started(client, chat.chat_id, message, policy="parallel")
    named = await client.post(f"{chat.url}/stop", json={"activeStreamId": "c"})
    assert named.json() == {"stopped": True, "state": "aborted", "message_id": "c"}
    assert await chat.log.in_flight(LOCAL.scope, chat.chat_id) == ["a", "b", "d"]
    told = await client.post(f"{chat.url}/stop")
    assert told.json() == {"stopped": True, "state": "stopping", "message_id": "a"}
    assert await chat.log.in_flight(LOCAL.scope, chat.chat_id) == ["a"]
    meta = await chat.log.meta(writer.ref)
    assert meta is not None
    assert meta.stop == "user"


async def test_a_restart_breaks_the_connection_and_is_not_replayed(chat: UiChat) -> None:
    await chat.post()
    await chat.write(*VOID)
    await chat.restart()
    _, before = await chat.answered()
    assert kinds(before) == ["start", "start-step", "text-start", "text-delta"]
    await chat.write(*TEXT, *CLOSED)
    await chat.end()
    _, fresh = await chat.get()
    assert kinds(fresh)[0] == "start"
    assert "Void" not in str(fresh)
    # Whoever comes with a cursor in what is void sees `start` too, and begins anew.
    assert before[-1].id is not None
    _, again = await chat.get("", **{"last-event-id": before[-1].id})
    assert again == fresh
    # Cursors behind it go on as ever.
    for number, event in enumerate(fresh[1:-2], 1):
        assert event.id is not None
        assert (await chat.get("", **{"last-event-id": event.id}))[1] == fresh[number + 1 :]


async def test_a_restart_can_be_said_in_the_stream(chat: UiChat, gateway: LiveGateway) -> None:
    await chat.post()
    await chat.write(*VOID)
    live = asyncio.create_task(chat.get("?reset=step"))
    counted = asyncio.create_task(chat.get("?startIndex=2"))
    await wait_until(lambda: len(gateway.services.hub.viewers) == 3)
    await chat.restart()
    await chat.write(*TEXT, *CLOSED)
    await chat.end()
    _, events = await live
    assert kinds(events)[4] == "reset-step"
    assert "".join(kinds(events)).count("start-step") == 1
    assert (await counted)[1] == events[2:]
    # A counting client that has nothing gets as many chunks, and nothing void among them.
    _, filled = await chat.get("?startIndex=0")
    assert len(filled) == len(events)
    assert "Void" not in str(filled)
    assert filled[6:] == events[6:]


async def test_a_cursor_of_a_lost_branch_is_like_none(chat: UiChat) -> None:
    await chat.whole()
    _, events = await chat.answered()
    assert events[4].id is not None
    foreign = events[4].id[:-1] + ("1" if events[4].id[-1] == "0" else "0")
    assert (await chat.get("", **{"last-event-id": foreign}))[1] == events


@pytest.mark.parametrize("text", ["x", "5", "msg_x:y:1", "a=b:1:1", "\u00fc:1:1", ":1:1", "m:-1:1"])
async def test_a_malformed_cursor_is_an_error_in_a_query_alone(chat: UiChat, text: str) -> None:
    await chat.whole()
    refused = await chat.client.get(f"{chat.url}/stream", params={"after": text})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_cursor")
    if text.isascii():
        response, _ = await chat.get("", **{"last-event-id": text})
        assert response.status_code in (200, 204)


@pytest.mark.parametrize("index", ["", "x", "1.5", "--1", "9" * 30, "\u0663"])
async def test_a_malformed_index_is_an_error(chat: UiChat, index: str) -> None:
    refused = await chat.client.get(f"{chat.url}/stream", params={"startIndex": index})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_cursor")


async def test_a_negative_index_counts_from_the_end_and_says_which_that_is(chat: UiChat) -> None:
    await chat.whole()
    _, events = await chat.answered()
    for index, begins in ((-3, 6), (-1, 8), (-99, 0)):
        response, tail = await chat.get(f"?startIndex={index}")
        assert response.headers["x-workflow-stream-tail-index"] == "8"
        assert tail == events[begins:]


async def test_a_message_that_goes_on_is_rebuilt_for_all_but_its_sender(chat: UiChat) -> None:
    call = {"type": "tool-weather", "toolCallId": "c1", "state": "output-available", "input": {}, "output": 1}
    going_on = {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, call]}
    ref = await chat.whole(messages=[user(), going_on], messageId="a1")
    response, sent = await chat.answered()
    run = response.headers["x-workflow-run-id"]
    assert run == f"run.5.{chat.chat_id}.{ref.message_id}"
    assert (sent[0].chunk, kinds(sent)[1]) == ({"type": "start", "messageId": "a1"}, "start-step")
    _, whole = await chat.get("", **{"last-event-id": "nothing of ours"})
    assert kinds(whole)[:6] == [
        *("start", "start-step", "tool-input-start", "tool-input-delta", "tool-output-available", "start"),
    ]
    assert whole[5:] == sent
    assert received((await chat.client.get(f"/api/chat/{run}/stream?startIndex=3")).text) == sent[3:]


async def test_a_chat_without_an_id_is_a_new_one(client: httpx.AsyncClient) -> None:
    """As the workflow transport sends it: no id, and no content type that says JSON."""
    runs = set()
    for _ in range(2):
        async with client.stream("POST", "/api/chat", content=b'{"messages":[{"role":"user","content":"x"}]}') as reply:
            assert reply.status_code == 200
            runs.add(reply.headers["x-workflow-run-id"])
    assert len(runs) == 2


@pytest.mark.parametrize("said", [{"messages": [user()]}, {"message": user()}])
async def test_a_key_names_the_start_of_a_chat_without_an_id_too(
    client: httpx.AsyncClient, other: httpx.AsyncClient, said: dict[str, Any]
) -> None:
    runs = []
    for one, key in ((client, "k1"), (other, "k1"), (client, "k2")):
        headers = {"idempotency-key": f"{key}-{list(said)}"}
        async with one.stream("POST", "/api/chat", json=said, headers=headers) as reply:
            assert reply.status_code == 200
            runs.append(reply.headers["x-workflow-run-id"])
    assert runs[0] == runs[1] != runs[2]
    changed = {"messages": [user("something else")]}
    refused = await client.post("/api/chat", json=changed, headers={"idempotency-key": f"k1-{list(said)}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_mismatch")
