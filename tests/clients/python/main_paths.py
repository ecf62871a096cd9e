"""The main paths of the `openai` package, of whatever version is on the path; prints what it saw as one JSON object.

    python main_paths.py http://127.0.0.1:8000 "Tell me about locks"

Knows nothing of this project: what is checked here is what an application of that version would see.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx
import openai


def text_of(events: list[Any]) -> str:
    """Return the text of either wire's events."""
    out = []
    for event in events:
        if getattr(event, "type", "") == "response.output_text.delta":
            out.append(event.delta)
        out += [choice.delta.content or "" for choice in getattr(event, "choices", None) or ()]
    return "".join(out)


def collect(stream: Any, events: list[Any]) -> bool:
    """Read a stream into `events`; return whether its connection broke."""
    try:
        for event in stream:
            events.append(event)  # noqa: PERF402 - what came before the error counts
    except (openai.APIConnectionError, httpx.TransportError):  # 1.x and 2.x let the transport's own error through
        return True
    return False


def chat(client: openai.OpenAI, prompt: str) -> dict[str, Any]:
    """Stream, helper and whole of a chat completion."""
    messages: Any = [{"role": "user", "content": prompt}]
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="scripted", messages=messages, stream=True, stream_options=options)
    )
    helpers: Any = (
        client.chat.completions if hasattr(client.chat.completions, "stream") else client.beta.chat.completions
    )
    with helpers.stream(model="scripted", messages=messages) as stream:
        helped = stream.get_final_completion()
    whole = client.chat.completions.create(model="scripted", messages=messages)
    return {
        "stream": text_of(chunks),
        "usage": chunks[-1].usage.total_tokens if chunks[-1].usage else None,
        "helper": helped.choices[0].message.content,
        "whole": whole.choices[0].message.content,
    }


def responses(client: openai.OpenAI, prompt: str) -> dict[str, Any]:
    """Whole and helper of a response, and one in the background, resumed as often as it takes."""
    whole = client.responses.create(model="scripted", input=prompt)
    with client.responses.stream(model="scripted", input=prompt) as stream:
        helped = stream.get_final_response()
    events: list[Any] = []
    broken = collect(client.responses.create(model="scripted", input=prompt, background=True, stream=True), events)
    name, resumes = events[0].response.id, 0
    while broken:
        resumes += 1
        last = events[-1].sequence_number
        broken = collect(client.responses.retrieve(name, stream=True, starting_after=last), events)
    with client.responses.stream(response_id=name) as stream:
        replayed = stream.get_final_response()
    return {
        "whole": whole.output_text,
        "helper": helped.output_text,
        "background": text_of(events),
        "numbers": [event.sequence_number for event in events],
        "resumes": resumes,
        "replayed": replayed.output_text,
        "chained": client.responses.create(model="scripted", input=prompt, previous_response_id=name).status,
        "cancelled": client.responses.cancel(name).status,
    }


def error(client: openai.OpenAI) -> dict[str, Any]:
    """The error of something that does not exist."""
    try:
        client.responses.retrieve("resp_none")
    except openai.NotFoundError as caught:
        return {"status": caught.status_code, "message": str(caught)}
    return {}


def main() -> None:
    url, prompt = sys.argv[1:]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client:
        seen = {
            "version": openai.__version__,
            "chat": chat(client, prompt),
            "responses": responses(client, prompt),
            "error": error(client),
        }
    print(json.dumps(seen))  # noqa: T201 - a program


if __name__ == "__main__":
    main()
