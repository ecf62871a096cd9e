"""Every fault as a client sees it, the counters that limit them, and the switch for all calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from deploy.scripted_model.text import full_text
from tests.unit.deploy.scripted_client import Json, ScriptedClient, ask, text_of

FAST = "rate=0 reasoning=0"


async def spoiled(client: ScriptedClient, prompt: str) -> tuple[list[str], Exception | None]:
    return await client.spoiled("/v1/chat/completions", ask(prompt))


def contents(lines: list[str]) -> list[str]:
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return [text for chunk in chunks if (text := text_of([chunk]))]


async def test_reset_cuts_the_connection_after_n_tokens(client: ScriptedClient) -> None:
    lines, error = await spoiled(client, f"r [[{FAST} fault=reset@5 key=reset]]")
    assert isinstance(error, httpx.ReadError)  # a RST; an unfinished body with a FIN is a RemoteProtocolError
    assert "".join(contents(lines)) == full_text([{"role": "user", "content": "r"}])[: len("".join(contents(lines)))]
    assert len(contents(lines)) == 5
    assert (await client.ended("reset"))["outcome"] == "fault:reset"


async def test_reset_at_zero_cuts_before_the_first_chunk(client: ScriptedClient) -> None:
    assert await spoiled(client, f"r [[{FAST} fault=eof@0]]") == ([], None)
    lines, error = await spoiled(client, f"r [[{FAST} fault=reset]]")
    assert lines == []
    assert isinstance(error, httpx.ReadError)


async def test_eof_ends_cleanly_without_a_finish_reason(client: ScriptedClient) -> None:
    lines, error = await spoiled(client, f"e [[{FAST} fault=eof@4]]")
    assert error is None
    assert len(contents(lines)) == 4
    assert all('"finish_reason":null' in line for line in lines)


async def test_an_error_object_ends_the_stream(client: ScriptedClient) -> None:
    lines, _ = await spoiled(client, f"e [[{FAST} fault=error@2]]")
    assert set(json.loads(lines[-1][6:])["error"]) == {"message", "type", "param", "code"}
    plain, _ = await spoiled(client, f"e [[{FAST} fault=string_error@2]]")
    assert isinstance(json.loads(plain[-1][6:])["error"], str)


async def test_a_malformed_line_is_not_json(client: ScriptedClient) -> None:
    lines, _ = await spoiled(client, f"m [[{FAST} fault=malformed@2]]")
    with pytest.raises(json.JSONDecodeError):
        json.loads(lines[-1].removeprefix("data: "))


async def test_a_hang_is_silent_until_the_client_leaves(client: ScriptedClient) -> None:
    body = ask(f"h [[{FAST} fault=hang@3 key=hang]]")
    async with client.http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.aiter_lines()
        seen: list[str] = []
        while len(contents(seen)) < 3:
            seen.append(await anext(lines))
        (entry,) = await client.log("hang")
        assert entry["open"]
    assert (await client.ended("hang"))["tokens_sent"] == 3


async def test_pings_are_sent_while_the_model_is_slow(client: ScriptedClient) -> None:
    lines, _ = await spoiled(client, f"p [[{FAST} tokens=2 first_token_ms=500 fault=pings]]")
    assert [line for line in lines if line.startswith(":")] == [": still thinking"] * 2
    assert lines[-1] == "data: [DONE]"


async def test_carriage_returns_and_single_bytes_change_nothing_but_the_form(client: ScriptedClient) -> None:
    prompt = "weather on the São coast"
    body = ask(f"{prompt} [[{FAST} tokens=40 fault=crlf,one_byte]]")
    async with client.http.stream("POST", "/v1/chat/completions", json=body) as response:
        raw = b"".join([part async for part in response.aiter_raw()])
    assert raw.count(b"\r\n\r\n") == raw.count(b"\n\r\n") == 43
    said = "".join(contents(raw.decode().splitlines()))
    assert said == full_text([{"role": "user", "content": prompt}], {"tokens": 40})


async def test_a_huge_delta_comes_first(client: ScriptedClient) -> None:
    lines, _ = await spoiled(client, f"b [[{FAST} tokens=3 fault=huge@1000000]]")
    assert [len(text) > 100_000 for text in contents(lines)] == [True, False, False, False]
    assert len(contents(lines)[0]) == 1_000_000


async def test_forms_seen_in_the_wild(client: ScriptedClient) -> None:
    async def chunks(fault: str, **body: object) -> list[Json]:
        return await client.chunks(ask(f"w [[{FAST} tokens=2 fault={fault}]]", **body))

    assert (await chunks("empty_choices"))[0]["choices"] == []
    repeated = [chunk["choices"][0]["delta"].get("role") for chunk in await chunks("role_repeat")]
    assert repeated == ["assistant", "assistant", "assistant", None]
    assert "role" not in (await chunks("no_role"))[0]["choices"][0]["delta"]
    usage = await chunks("usage_on_final", stream_options={"include_usage": True})
    assert usage[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage[-1]["usage"]["completion_tokens"] == 2
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in await chunks("no_finish"))
    lines, _ = await spoiled(client, f"w [[{FAST} tokens=2 fault=no_done]]")
    assert '"finish_reason":"stop"' in lines[-1]


async def test_ids_and_names_of_tool_calls_can_repeat(client: ScriptedClient) -> None:
    tools = [{"type": "function", "function": {"name": "tide"}}]
    chunks = await client.chunks(ask(f"t [[{FAST} tool=1 fault=tool_repeat,huge@5]]", tools=tools))
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert len(calls) > 1
    assert {(call["id"], call["function"]["name"]) for call in calls} == {(calls[0]["id"], "tide")}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_details"])
async def test_reasoning_comes_in_any_field(client: ScriptedClient, field: str) -> None:
    chunks = await client.chunks(ask(f"f [[rate=0 tokens=1 reasoning=6 reasoning_field={field}]]"))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert sum(field in delta for delta in deltas) == 6


async def test_a_status_strikes_the_first_calls_of_a_key_only(client: ScriptedClient) -> None:
    body = ask(f"s [[{FAST} tokens=1 status=529 times=2 retry_after=0.5 key=flaky]]")
    answers = [await client.http.post("/v1/chat/completions", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [529, 529, 200]
    assert answers[0].headers["retry-after"] == "0.5"
    # A client has all of its answer a moment before the journal has how that ended.
    entries = await client.wait_log("flaky", lambda entries: not any(entry["open"] for entry in entries))
    assert [entry["outcome"] for entry in entries] == ["refused:529", "refused:529", "done"]


async def test_a_fault_strikes_the_first_calls_that_were_not_refused(client: ScriptedClient) -> None:
    prompt = f"s [[{FAST} tokens=5 status=500 times=1 fault=eof@2 fault_times=1 key=twice]]"
    assert (await client.http.post("/v1/chat/completions", json=ask(prompt))).status_code == 500
    assert [len(contents((await spoiled(client, prompt))[0])) for _ in range(2)] == [2, 5]


@pytest.mark.parametrize(("form", "body"), [("detail", b'{"detail":"'), ("text", b"The scripted"), ("openai", b'{"er')])
async def test_error_bodies_come_in_several_forms(client: ScriptedClient, form: str, body: bytes) -> None:
    prompt = f"s [[status=503 error_body={form}]]"
    assert (await client.http.post("/v1/chat/completions", json=ask(prompt))).content.startswith(body)


async def test_whole_answers_fail_too(client: ScriptedClient) -> None:
    async def post(fault: str) -> httpx.Response:
        return await client.http.post("/v1/chat/completions", json=ask(f"s [[{FAST} fault={fault}]]", stream=False))

    assert (await post("error@3")).status_code == 500
    with pytest.raises(json.JSONDecodeError):
        (await post("malformed@3")).json()
    with pytest.raises(httpx.TransportError):
        await post("reset@3")


async def test_an_endless_answer_ends_when_its_reader_leaves(client: ScriptedClient) -> None:
    body = ask("n [[rate=0 endless=1 key=endless]]")
    async with client.http.stream("POST", "/v1/chat/completions", json=body) as response:
        read = 0
        async for part in response.aiter_raw():
            read += len(part)
            if read > 1_000_000:
                break
    entry = await client.ended("endless")
    assert entry["outcome"] == "client_gone"
    assert 0 < entry["tokens_sent"] < 1_000_000


@pytest.fixture
async def switched(client: ScriptedClient) -> AsyncIterator[ScriptedClient]:
    yield client
    await client.http.post("/__faults", json={"mode": "none"})


@pytest.mark.parametrize(
    ("mode", "outcome"), [("429", "refused:429"), ("500", "refused:500"), ("reset", "fault:reset")]
)
async def test_the_switch_strikes_all_new_calls(switched: ScriptedClient, mode: str, outcome: str) -> None:
    await switched.http.post("/__faults", json={"mode": mode, "probability": 1, "seed": 1})
    try:
        await switched.http.post("/v1/chat/completions", json=ask(f"x [[rate=0 key=switch-{mode}]]"))
    except httpx.TransportError:
        assert mode == "reset"
    assert (await switched.ended(f"switch-{mode}"))["outcome"] == outcome


async def test_the_switch_strikes_the_same_calls_for_the_same_seed(switched: ScriptedClient) -> None:
    async def strikes() -> list[int]:
        await switched.http.post("/__faults", json={"mode": "500", "probability": 0.5, "seed": 9})
        body = ask("y [[rate=0 tokens=1]]")
        return [(await switched.http.post("/v1/chat/completions", json=body)).status_code for _ in range(12)]

    first = await strikes()
    assert first == await strikes()
    assert set(first) == {200, 500}


async def test_the_switch_refuses_nonsense(switched: ScriptedClient) -> None:
    assert (await switched.http.post("/__faults", json={"mode": "fire"})).status_code == 400
    assert (await switched.http.post("/__faults", json={"mode": "429", "probability": 2})).status_code == 400
