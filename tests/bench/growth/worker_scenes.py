"""Owns the scenes about workers, on the whole road: many answers at once, long answers, deep queues, more workers."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import redis

from shared.ids import MessageRef
from shared.jobs import QUEUE_NAME
from shared.log.keys import DUE, WAKE, log_keys
from tests.bench import services
from tests.bench.growth.meter import Meter, Values, Viewers, a_second
from tests.bench.own import SCOPE
from tests.bench.rig import MEASURED, OTHERS, Rig, python, rig
from tests.support.ports import free_port

RATE = 1
TOKEN_RATE = 5000
LEAST_TOKENS = 10_000
STARTS = 200
WITHIN_S = 100.0


def starting(chat: str, streams: int) -> tuple[object, ...]:
    """Return the load client's arguments for viewers who start a message each and watch it."""
    body = json.dumps({"messages": [{"role": "user", "content": "go"}], "message_id": "m"})
    return ("-S", streams, "-u", f"/chats/{chat}%d/messages", "-H", services.AUTH, "-P", body)


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + WITHIN_S
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {WITHIN_S:g} s")
        time.sleep(0.02)


def over(client: Any, chats: list[str]) -> int:
    """Return how many of the chats' messages have ended."""
    pipe = client.pipeline(transaction=False)
    for chat in chats:
        pipe.hget(log_keys(MessageRef(SCOPE, chat, "m")).meta, "st")
    return sum(state in (b"done", b"failed", b"aborted") for state in pipe.execute())


def answers(streams: int, span: float) -> Values:
    """So many answers under way, a token a second and one viewer each: what they cost a second."""
    with rig() as it, redis.Redis(port=it.redis_port) as client:
        it.redis()
        services.model(it, RATE, 100_000)
        services.gateway(it, core=OTHERS, TAILRACE_MAX_RUNNING_PER_USER="0")
        services.worker(it, core=MEASURED, TAILRACE_WORKER_SLOTS="5000")
        time.sleep(0.3)
        meter = Meter(it, gateway=["server"], worker=["worker"], redis=["redis"])
        load = Viewers(it, streams, *starting("c", streams), "-c", 64)
        load.connected()
        wait_for(lambda: client.zcard(QUEUE_NAME) == 0, "queue empty")
        time.sleep(span / 4)
        meter.begin()
        time.sleep(span)
        found, seen = meter.end(), load.end()
        it.end(hard=True)
        return {**a_second(found), "faults": seen["faults"] + seen["silent"]}


def long_answer(tokens: int, span: float) -> Values:
    """One answer of so many tokens, from its start until its final message is stored."""
    times = max(1, int(span * LEAST_TOKENS / 4) // tokens)
    with rig() as it, redis.Redis(port=it.redis_port) as client:
        it.redis()
        services.model(it, TOKEN_RATE, tokens)
        services.gateway(it)
        services.worker(it, core=MEASURED, TAILRACE_MAX_MESSAGE_ENTRIES="1000000")
        services.start(it, "warm", message_id="m", params={"tokens": 1})
        wait_for(lambda: over(client, ["warm"]), "first message")
        meter = Meter(it, gateway=["server"], worker=["worker"], redis=["redis"])
        meter.begin()
        faults = 0.0
        for number in range(times):
            chat = f"l{number}"
            services.start(it, chat, message_id="m")
            url = ("-u", f"/chats/{chat}/messages/m/stream", "-H", services.AUTH)
            seen = Viewers(it, 1, *url, "-e", tokens, "-f", 1).done()
            wait_for(lambda chat=chat: over(client, [chat]) == 1, "end of the message")  # type: ignore[misc]
            faults += seen["faults"] + 1 - seen["done"]
        found = meter.end(per=times, peak=True)
        it.end(hard=True)
        return {**found, "faults": faults}


def queueing_worker(it: Rig, slots: int) -> Any:
    """Start a worker whose queue is database 1; return a client of that."""
    url = f"redis://127.0.0.1:{it.redis_port}/1"
    services.worker(it, core=MEASURED, TAILRACE_WORKER_SLOTS=str(slots), TAILRACE_QUEUE_REDIS_URL=url)
    return redis.Redis(port=it.redis_port, db=1)


def enqueue(it: Rig, chat: str, depth: int, look_after_ms: int) -> None:
    """Queue so many messages in database 2, where no worker looks."""
    it.run([python(), "-m", "tests.bench.growth.enqueue", it.redis_url, chat, str(depth), str(look_after_ms)])


def release(client: Any) -> None:
    """Have the worker see what was queued, all at once."""
    client.swapdb(1, 2)
    client.publish(WAKE, "")


def drained(depth: int, span: float) -> Values:
    """So many messages wait, of one token each: what it takes until all of them have ended."""
    with rig() as it:
        it.redis()
        services.model(it, 0, 1)
        client, messages = queueing_worker(it, 100), redis.Redis(port=it.redis_port)
        enqueue(it, "warm", 20, 60_000)
        release(client)
        wait_for(lambda: over(messages, [f"warm{number}" for number in range(20)]) == 20, "the first messages")
        meter = Meter(it, worker=["worker"], redis=["redis"])
        enqueue(it, "q", depth, 300_000)
        meter.begin()
        release(client)
        wait_for(lambda: client.zcard(QUEUE_NAME) == 0, "an empty queue")
        wait_for(lambda: over(messages, [f"q{number}" for number in range(depth)]) == depth, "every message's end")
        found = meter.end(peak=True)
        it.end(hard=True)
        return {**found, "faults": 0.0}


def look_within(client: Any, depth: int, span: float) -> None:
    """Have the reapers look at every message once, at some time within the span."""
    now, pipe = time.time(), client.pipeline(transaction=False)
    for number in range(depth):
        member = MessageRef(SCOPE, f"q{number}", "m").member
        pipe.zadd(DUE, {member: int(1000 * (now + random.uniform(0.2, span - 0.5)))})
    pipe.execute()


def waiting(depth: int, span: float) -> Values:
    """So many messages wait behind a worker without a free slot, each looked at once: what that costs a second."""
    with rig() as it:
        it.redis()
        services.model(it, 1, 100_000)
        client = queueing_worker(it, 1)
        meter = Meter(it, worker=["worker"], redis=["redis"])
        enqueue(it, "q", depth + 1, 300_000)
        release(client)
        wait_for(lambda: client.zcard(QUEUE_NAME) == depth, "one of them taken")
        look_within(redis.Redis(port=it.redis_port), depth + 1, span)
        meter.begin()
        time.sleep(span)
        found = {**a_second(meter.end()), "faults": 0.0, "jobs": float(client.zcard(QUEUE_NAME))}
        it.end(hard=True)
        return found


def workers(replicas: int, span: float) -> Values:
    """200 short answers, one after the other, with so many idle workers: what one of them costs all workers."""
    with rig() as it:
        it.redis()
        services.model(it, 0, 1)
        services.gateway(it, core=OTHERS)
        names = [f"worker{number}" for number in range(replicas)]
        for name in names:
            services.worker(it, core=MEASURED, name=name, health=free_port())
        Viewers(it, 20 * replicas, *starting("w", 20 * replicas), "-e", 1).done()
        meter = Meter(it, worker=names, redis=["redis"])
        meter.begin()
        seen = Viewers(it, STARTS, *starting("c", STARTS), "-e", 1, "-c", 1).done()
        time.sleep(0.3)
        found = meter.end(per=STARTS)
        it.end(hard=True)
        return {**found, "faults": seen["faults"] + STARTS - seen["done"]}
