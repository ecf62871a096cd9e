"""Races the worker against a naive one: CPU per token at so many generations at a time, 25 tokens a second each.

python -m tests.bench.workers [GENERATIONS] [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import redis

from tests.bench import services
from tests.bench.rig import HERE, MEASURED, OTHERS, Rig, busy_s, cpu_s, leave_network, python, rig

RATE = 25
WARM_S, SPAN_S = 4.0, 5.0


def _measure(it: Rig, pid: int, generations: int) -> tuple[float, float]:
    """Return CPU seconds per 100,000 tokens over the span, and the share of the core that others took."""
    before, busy, tokens = cpu_s(pid), busy_s(MEASURED), _tokens(it)
    time.sleep(SPAN_S)
    cpu, busy = cpu_s(pid) - before, busy_s(MEASURED) - busy
    return 1e5 * cpu / max(1, _tokens(it) - tokens), max(0.0, busy - cpu) / SPAN_S


def _tokens(it: Rig) -> int:
    """Return how many tokens have been written so far."""
    with redis.Redis(port=it.redis_port) as client:
        keys = [key for key in client.scan_iter(count=1000) if key.startswith(b"s:") or key.endswith(b":log")]
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.xrevrange(key, count=1)
        # the mark of the last token tells how many there were, however they were joined
        return sum(_last_seq(rows) for rows in pipe.execute())


def _last_seq(rows: list[tuple[bytes, dict[bytes, bytes]]]) -> int:
    data = rows[0][1].get(b"d", b"") if rows else b""
    mark = data.rfind(b"#")
    return int(data[mark + 1 :].partition(b"@")[0]) if mark >= 0 else 0


def ours(generations: int) -> tuple[float, float]:
    """Run the product's worker."""
    with rig() as it:
        it.redis()
        services.model(it, RATE, 100_000)
        services.gateway(it, core=OTHERS)
        pid = services.worker(it, core=MEASURED, TAILRACE_WORKER_SLOTS=str(generations))
        for number in range(generations):
            services.start(it, f"c{number}", message_id="m")
        time.sleep(WARM_S)
        found = _measure(it, pid, generations)
        it.end(hard=True)
        return found


def naive(generations: int) -> tuple[float, float]:
    """Run the naive one."""
    with rig() as it:
        it.redis()
        services.model(it, RATE, 100_000)
        script = str(Path(HERE / "peers" / "naive_worker.py"))
        command = [python(), script, str(generations), f"http://127.0.0.1:{it.spare}/v1", str(it.redis_port)]
        pid = it.spawn("worker", command, core=MEASURED).pid
        time.sleep(WARM_S + generations / 100)
        found = _measure(it, pid, generations)
        it.end(hard=True)
        return found


def race(generations: int, rounds: int) -> tuple[float, float]:
    """Return the medians: ours and the naive one's CPU seconds per 100,000 tokens."""
    pairs = [(ours(generations), naive(generations)) for _ in range(rounds)]
    for mine, theirs in pairs:
        print(
            f"{generations} generations: ours {mine[0]:.2f} (others {mine[1]:.0%}), naive {theirs[0]:.2f}", flush=True
        )
    return statistics.median(p[0][0] for p in pairs), statistics.median(p[1][0] for p in pairs)


if __name__ == "__main__":
    leave_network()
    asked = [*map(int, sys.argv[1:]), 100, 1]
    mine, theirs = race(asked[0], asked[1] if len(sys.argv) > 2 else 1)
    print(f"ratio {mine / theirs:.3f}")
