"""The request log: who called, what was sent, how it ended; in memory and in the file. And the process itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deploy.scripted_model.child import child_model
from deploy.scripted_model.text import full_text
from tests.unit.deploy.scripted_client import ScriptedClient, ask, connect


async def test_an_entry_tells_who_called_and_how_it_ended(client: ScriptedClient) -> None:
    headers = {"x-request-id": "r-1", "x-tailrace-message": "m-1", "x-tailrace-attempt": "2"}
    messages = [{"role": "user", "content": "log [[rate=0 tokens=7 key=log]]"}, {"role": "assistant", "content": "T"}]
    await client.http.post("/v1/chat/completions", json=ask("", messages=messages), headers=headers)
    entry = await client.ended("log")
    assert (entry["request_id"], entry["message"], entry["attempt"]) == ("r-1", "m-1", "2")
    assert (entry["api"], entry["stream"], entry["prefill_chars"], entry["outcome"]) == ("chat", True, 1, "done")
    assert entry["received_monotonic"] <= entry["ended_monotonic"]
    assert len(entry["prompt_hash"]) == 16


async def test_calls_without_a_key_are_counted_by_prompt_whatever_their_prefill(client: ScriptedClient) -> None:
    asked = {"role": "user", "content": "by prompt [[rate=0 tokens=2]]"}
    await client.chunks(ask("", messages=[asked]))
    await client.chunks(ask("", messages=[asked, {"role": "assistant", "content": "x"}]))
    entries = (await client.http.get("/__log")).json()["entries"]
    assert entries[-1]["prompt_hash"] == entries[-1]["key"] == entries[-2]["key"]
    assert [entry["call"] for entry in entries[-2:]] == [1, 2]


async def test_where_texts_vary_the_log_tells_which_call_said_what(client: ScriptedClient) -> None:
    prompt = "varied [[rate=0 tokens=30 reasoning=0 key=varied vary=1]]"
    said = [await client.say(prompt) for _ in range(2)]
    entries = await client.log("varied")
    messages = [{"role": "user", "content": prompt}]
    assert said == [full_text(messages, {"variant": entry["call"]}) for entry in entries]
    assert said[0] != said[1]


async def test_a_silent_stream_notices_at_once_that_its_reader_left(client: ScriptedClient) -> None:
    body = ask("silent [[first_token_ms=60000 key=silent]]")
    async with client.http.stream("POST", "/v1/chat/completions", json=body):
        (entry,) = await client.log("silent")
        assert entry["open"]
    entry = await client.ended("silent")
    assert (entry["outcome"], entry["tokens_sent"]) == ("client_gone", 0)


async def test_a_whole_answer_that_nobody_waits_for_ends_too(client: ScriptedClient) -> None:
    body = ask("patience [[first_token_ms=60000 key=patience]]", stream=False)
    with pytest.raises(httpx.ReadTimeout):
        await client.http.post("/v1/chat/completions", json=body, timeout=0.3)
    assert (await client.ended("patience"))["outcome"] == "client_gone"


async def test_entries_after_a_number_and_none_after_a_reset(tmp_path: Path) -> None:
    with child_model("--tokens", "3", "--rate", "0") as process:
        async with connect(process.root) as client:
            for prompt in ("one", "two", "three"):
                assert await client.say(prompt)
            later = (await client.http.get("/__log?since=1")).json()
            assert [entry["id"] for entry in later["entries"]] == [2, 3]
            assert later["last"] == 3
            await client.http.post("/__reset")
            assert (await client.http.get("/__log")).json()["entries"] == []
            assert (await client.http.get("/__log?since=x")).status_code == 400


async def test_the_file_has_a_line_for_the_arrival_and_one_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with child_model("--log-file", str(path)) as process:
        async with connect(process.root) as client:
            await client.say("file [[rate=0 tokens=4 key=file reasoning=0]]")
    received, ended = [json.loads(line) for line in path.read_text().splitlines()]
    assert (received["event"], received["open"], received["key"]) == ("received", True, "file")
    assert (ended["event"], ended["outcome"], ended["tokens_sent"]) == ("ended", "done", 4)


async def test_a_stop_does_not_wait_for_readers(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with child_model("--log-file", str(path)) as process:
        async with connect(process.root) as client:
            lines = client.lines("/v1/chat/completions", ask("stop [[endless=1 rate=10]]"))
            assert await anext(lines)
            os.kill(process.pid, signal.SIGTERM)
            with pytest.raises(httpx.TransportError):
                async for _ in lines:
                    pass
    assert json.loads(path.read_text().splitlines()[-1])["outcome"] == "server_stop"


def test_a_taken_port_is_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "deploy.scripted_model", "--port", port]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert finished.returncode == 1
    assert finished.stderr == f"scripted model: cannot listen on 127.0.0.1:{port}: Address already in use\n"
