"""Measures the whole road: from the model's write of a token to a viewer's socket, through one worker and one gateway.

python -m tests.bench.road
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from typing import Any

import redis

from tests.bench import services
from tests.bench.own import API_KEY
from tests.bench.rig import MEASURED, OTHERS, Rig, leave_network, rig

RATE = 25
RUNNING = 200
FULL = 300


def _first_token_s(port: int, path: str, body: dict[str, Any]) -> float:
    """Ask for an answer and return after how long its first token came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {
        "authorization": f"Bearer {API_KEY}",
        "content-type": "application/json",
        "accept": "text/event-stream",
    }
    try:
        began = time.perf_counter()
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        while b"#1@" not in (row := answer.readline()):
            if not row:
                raise RuntimeError("no token came")
        return time.perf_counter() - began
    finally:
        connection.close()


def _ask(port: int, chat: str, **params: Any) -> float:
    body = {"messages": [{"role": "user", "content": "go"}], "params": params}
    return _first_token_s(port, f"/chats/{chat}/messages", body)


def _direct(it: Rig, **params: Any) -> float:
    return _first_token_s(it.spare, "/v1/chat/completions", {"model": "m", "stream": True, "messages": [], **params})


def _claim_ms(it: Rig, times: int) -> float:
    """Return the median time from a message's creation to its claim: both clocks are Redis', in the ids."""
    took = []
    with redis.Redis(port=it.redis_port) as client:
        for number in range(times):
            name = next(iter(client.scan_iter(f"tr:*/t{number}}}:*:log", count=10_000)))
            first, second = (int(row[0].partition(b"-")[0]) // 1000 for row in client.xrange(name, count=2))
            took.append(second - first)
    return statistics.median(took)


def first_tokens(times: int = 30) -> dict[str, float]:
    """Return medians on an idle system: first token directly, through the product, and from creation to claim."""
    with rig() as it:
        it.redis()
        services.model(it, RATE, 5)
        services.gateway(it, core=OTHERS)
        services.worker(it, core=MEASURED)
        _ask(it.port, "warm", tokens=1)
        time.sleep(0.5)
        direct, through = [], []
        for number in range(times):
            direct.append(_direct(it, tokens=1, rate=RATE))
            through.append(_ask(it.port, f"t{number}", tokens=1, rate=RATE))
            time.sleep(0.02)
        return {
            "direct_ms": 1000 * statistics.median(direct),
            "through_ms": 1000 * statistics.median(through),
            "claim_ms": _claim_ms(it, times),
        }


def under_way(running: int = RUNNING, span: float = 6.0) -> dict[str, float]:
    """Return the latency from the model's write to the viewer, and what each service spends a token."""
    with rig() as it:
        it.redis()
        services.model(it, RATE, 100_000)
        services.gateway(it)
        services.worker(it, core=MEASURED)
        for number in range(running):
            services.start(it, f"c{number}", message_id="m")
        got = it.load("-p", it.port, "-n", running, "-S", running, *services.STREAM, "-w", 2, "-d", span)
        tokens = max(1, int(got.seen["events"]))
        return {
            "p50_ms": got.seen["p50_ms"],
            "p99_ms": got.seen["p99_ms"],
            "delivered": tokens / (running * RATE * got.seen["seconds"]),
            "faults": got.faults,
            "foreign": max(0.0, got.foreign - got.cpu["worker"] / got.seen["seconds"]),
            "worker_cpu": 1e5 * got.cpu["worker"] / tokens,
            "gateway_cpu": 1e5 * got.cpu["server"] / tokens,
            "redis_cpu": 1e5 * got.cpu["redis"] / tokens,
        }


def one_more(running: int = FULL) -> float:
    """Return how long the first token of one more answer takes, in ms, with `running` under way."""
    with rig() as it:
        it.redis()
        services.model(it, RATE, 100_000)
        services.gateway(it, core=OTHERS)
        services.worker(it, core=MEASURED)
        for number in range(running):
            services.start(it, f"c{number}", message_id="m")
        time.sleep(2)
        return 1000 * statistics.median(_ask(it.port, f"more{number}", tokens=1) for number in range(5))


if __name__ == "__main__":
    leave_network()
    print(first_tokens())
    print(under_way())
    print({"one_more_ms": one_more()})
