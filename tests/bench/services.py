"""Owns how the product's own services are started on a rig: as in production, with authentication on."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

from tests.bench.own import API_KEY, STREAM_PATH
from tests.bench.rig import MEASURED, OTHERS, Rig, python

AUTH = f"Authorization: Bearer {API_KEY}"
STREAM = ("-u", STREAM_PATH, "-H", AUTH)
"""The load client's arguments for the streams of `tests.bench.own`."""


def _env(rig: Rig, **more: str) -> dict[str, str]:
    models = rig.folder / "models.toml"
    url = f"http://127.0.0.1:{rig.spare}/v1"
    models.write_text(f'[[models]]\nname = "m"\nkind = "chat_completions"\nbase_url = "{url}"\ndefault = true\n')
    return {
        "TAILRACE_REDIS_URL": rig.redis_url,
        "TAILRACE_UPSTREAMS_FILE": str(models),
        "TAILRACE_API_KEYS": f"{API_KEY}=bench/u",
        "TAILRACE_LOG_LEVEL": "WARNING",
        "OPENAI_API_KEY": "none",
        **more,
    }


def gateway(rig: Rig, *, core: int = MEASURED, name: str = "server", port: int = 0, **env: str) -> int:
    """Start a gateway and wait until it serves; return its pid."""
    port = port or rig.port
    more = _env(rig, TAILRACE_PORT=str(port), TAILRACE_MAX_VIEWERS="50000", **env)
    process = rig.spawn(name, [python(), "-m", "gateway"], core=core, env=more)
    rig.wait_port(port)
    return process.pid


def worker(rig: Rig, *, core: int = OTHERS, name: str = "worker", health: int = 0, **env: str) -> int:
    """Start a worker and wait until it is ready; return its pid. Beside another it needs a `health` port of its own."""
    health = health or rig.health
    more = _env(rig, TAILRACE_WORKER_HEALTH_PORT=str(health), **env)
    process = rig.spawn(name, [python(), "-m", "worker"], core=core, env=more)
    rig.wait_port(health)
    wait_ready(health)
    return process.pid


def model(rig: Rig, rate: float, tokens: int) -> None:
    """Start the benchmark's model."""
    rig.spawn("model", [python(), "-m", "tests.bench.upstream", str(rig.spare), str(rate), str(tokens)])
    rig.wait_port(rig.spare)


def wait_ready(port: int) -> None:
    """Wait until a service says that it is ready."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the service does not get ready")


def start(rig: Rig, chat: str, **params: Any) -> None:
    """Start a message in a chat."""
    body = json.dumps({"messages": [{"role": "user", "content": "go"}], **params}).encode()
    headers = {"authorization": f"Bearer {API_KEY}", "content-type": "application/json"}
    url = f"http://127.0.0.1:{rig.port}/chats/{chat}/messages"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
        answer.read()
