"""The same road with an upstream that nobody here wrote: LiteLLM's proxy, in front of the scripted model."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from deploy.scripted_model.text import full_text
from shared.events import End, Finish, TextDelta, ToolInputAvailable, decode_event
from tests.support.ports import free_port
from tests.support.processes import ProcessGroup, ServerProcess, chat_model
from tests.support.redis import RedisServer, skip_or_fail

LITELLM = Path(__file__).resolve().parents[2] / ".venv-third-party" / "bin" / "litellm"
STARTS_WITHIN_S = 120.0

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240), pytest.mark.slow]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(emptied_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    """A gateway whose worker calls LiteLLM, which calls the scripted model."""
    if not LITELLM.exists():
        skip_or_fail("LiteLLM is not installed; `make third-party` installs it and runs this")
    folder = tmp_path_factory.mktemp("litellm")
    async with ProcessGroup() as group:
        model = await group.model()
        proxy = await start_litellm(group, model, folder)
        models = [chat_model(proxy.port, upstream_model="through-litellm", prefill=False)]
        await group.worker(emptied_redis.url, models)
        yield await group.gateway(emptied_redis.url, models)


async def start_litellm(group: ProcessGroup, model: ServerProcess, folder: Path) -> ServerProcess:
    config = folder / "config.yaml"
    config.write_text(
        "model_list:\n  - model_name: through-litellm\n    litellm_params:\n      model: openai/scripted\n"
        f"      api_base: {model.url}/v1\n      api_key: none\n"
    )
    port = free_port()
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is fetched
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "PATH": os.environ["PATH"],
    }
    arguments = (str(LITELLM), "--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    proxy = await group.spawn("litellm", port, arguments, environment, program=str(LITELLM.parent / "python"))
    await proxy.wait_ready("/health/liveliness", STARTS_WITHIN_S)
    return proxy


async def ask(gateway: ServerProcess, chat_id: str, prompt: str, **params: object) -> list[object]:
    """Start and read one answer; return its events."""
    body = {"messages": [{"role": "user", "content": prompt}], "params": params}
    headers = {"accept": "text/event-stream"}
    async with httpx.AsyncClient(timeout=60) as client:
        reply = await client.post(f"{gateway.url}/chats/{chat_id}/messages", json=body, headers=headers)
        assert reply.status_code == 200, reply.text
    lines = [line[6:] for line in reply.text.split("\n") if line.startswith("data: ")]
    return [decode_event(line.encode()) for line in lines]


def text_of(events: list[object]) -> str:
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


async def test_an_answer_comes_through_whole(gateway: ServerProcess) -> None:
    prompt = "Tell me about mills [[tokens=60 rate=200]]"
    events = await ask(gateway, "third-1", prompt)
    assert text_of(events) == full_text([{"role": "user", "content": prompt}])
    assert isinstance(events[-1], End)
    assert events[-1].state == "done"
    assert any(isinstance(event, Finish) and event.finish_reason == "stop" for event in events)


async def test_a_tool_call_comes_through(gateway: ServerProcess) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "water_level",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
        },
    }
    events = await ask(gateway, "third-2", "How high is it? [[rate=0]]", tools=[tool], tool_choice="required")
    calls = [event for event in events if isinstance(event, ToolInputAvailable)]
    assert [call.tool_name for call in calls] == ["water_level"]
    assert isinstance(calls[0].input["place"], str)


async def test_a_refusal_of_the_model_behind_it_is_a_stated_failure(gateway: ServerProcess) -> None:
    events = await ask(gateway, "third-3", "Hello [[status=400 error_body=text]]")
    end = events[-1]
    assert isinstance(end, End)
    assert end.state == "failed"
    assert end.error is not None
    assert end.error.code == "upstream_rejected"
