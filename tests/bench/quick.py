"""Counts what an event costs in operations, and fails if that has grown: `make bench-quick`, under a minute.

    python -m tests.bench.quick           against baseline.json
    python -m tests.bench.quick --write   makes the baseline anew

Commands, bytes and system calls do not depend on how fast or busy the machine is, so that a few per cent mean
something. Four scenes: live events through a gateway, a catch-up, tokens through a worker, and a long answer's segments
and snapshots.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import services, snapshots
from tests.bench.counts import RedisCounts
from tests.bench.rig import BUILD, HERE, Rig, python, rig

BASELINE = HERE / "baseline.json"
TOLERANCE = {
    "catch_up.redis": 1.0,
    "catch_up": 0.05,
    "live": 0.1,
    "live.syscalls": 0.25,
    "segments": 0.05,
    "snapshot": 0.05,
    "worker": 0.15,
    "worker.syscalls": 0.3,
}
"""By how much a count may exceed its baseline; the longest name that fits counts. Of the pages that viewers share one
may be forgotten, and read again, while they still come (if none was kept: three to ten times as many; if none was
shared: fifty); system calls depend on what arrives together."""

Counts = dict[str, float]


@contextmanager
def traced(pid: int, found: dict[str, int]) -> Iterator[None]:
    """Count the system calls of a process into `found`; leaves it empty where that cannot be done."""
    table = BUILD / "run" / "strace.txt"
    table.unlink(missing_ok=True)
    if shutil.which("strace") is None:
        yield
        return
    tracer = subprocess.Popen(["strace", "-c", "-f", "-q", "-o", str(table), "-p", str(pid)], stderr=subprocess.DEVNULL)
    time.sleep(0.5)  # strace does not say when it has attached
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        rows = [row.split() for row in table.read_text().splitlines()] if table.exists() else []
        found.update({row[-1]: int(row[3]) for row in rows if len(row) > 4 and row[3].isdigit()})
        found.pop("total", None)


def owned(it: Rig, count: int) -> str:
    """Own `count` messages; return the file that says so."""
    path = str(it.folder / "owned.txt")
    it.run([python(), "-m", "tests.bench.own", it.redis_url, str(count), path])
    return path


def produce(it: Rig, streams: int, rate: float, seconds: float, file: str, *more: str) -> subprocess.Popen[bytes]:
    """Start the event source on the product's log."""
    where = ["-p", str(it.redis_port), "-f", file, "-S", str(streams), "-R", str(rate), "-d", str(seconds)]
    return it.spawn("source", [str(BUILD / "produce"), "-m", "append", *where, *more])


def live() -> Counts:
    """20 streams, 5 viewers each, 20 events a second and stream."""
    with rig() as it:
        it.redis()
        file = owned(it, 20)
        pid = services.gateway(it)
        calls: dict[str, int] = {}
        # Both outlast what is counted, so that neither connecting nor leaving is in it.
        load = it.spawn(
            "load",
            [str(BUILD / "load"), "-p", str(it.port), "-n", "100", "-S", "20", *services.STREAM, "-w", "1", "-d", "8"],
            stdout=subprocess.PIPE,
        )
        assert load.stdout is not None
        while load.stdout.readline().strip() != b"begin":
            pass
        counts = RedisCounts(it.redis_port)
        with traced(pid, calls):
            produce(it, 20, 20, 4, file).wait()
            time.sleep(0.2)
        found = counts.per(1600, "live")
        seen = json.loads(load.stdout.read().splitlines()[-1])
        assert seen["events"] == 8000, seen
        assert seen["gaps"] == seen["doubles"] == 0, seen
        found["live.client_bytes"] = seen["bytes"] / 8000
        found["live.client_reads"] = seen["reads"] / 8000
        if calls:
            found["live.syscalls"] = sum(calls.values()) / 8000
        return found


def _asking(port: int) -> int:
    """Return how many connections to a port have sent something that nobody has read yet."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]
    return sum(not row[4].endswith(":00000000") for row in here)


def _let_on(pid: int, port: int, viewers: int) -> None:
    """Let a stopped process go on once so many have asked it for something; after a while in any case."""
    end = time.monotonic() + 10
    while _asking(port) < viewers and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(pid, signal.SIGCONT)


def catch_up() -> Counts:
    """50 viewers who want 4000 stored events of one stream, and ask for them before any of them is served."""
    with rig() as it:
        it.redis()
        file = owned(it, 1)
        produce(it, 1, 0, 0, file, "-B", "4000").wait()
        pid = services.gateway(it)
        counts = RedisCounts(it.redis_port)
        os.kill(pid, signal.SIGSTOP)
        crowd = threading.Thread(target=_let_on, args=(pid, it.port, 50))
        crowd.start()
        got = it.load("-p", it.port, "-n", 50, "-S", 1, *services.STREAM, "-e", 4000, "-f", 1)
        crowd.join()
        assert (got.seen["done"], got.faults) == (50, 0), got
        found = counts.per(200_000, "catch_up")
        found["catch_up.client_bytes"] = got.seen["bytes"] / 200_000
        return found


def worker() -> Counts:
    """20 generations of 100 tokens, 50 a second."""
    with rig() as it:
        it.redis()
        services.model(it, 50, 100)
        services.gateway(it)
        pid = services.worker(it)
        services.start(it, "warm", params={"tokens": 1})
        time.sleep(0.5)
        counts, calls = RedisCounts(it.redis_port), dict[str, int]()
        with traced(pid, calls):
            for number in range(20):
                services.start(it, f"c{number}", message_id="m")
            got = it.load("-p", it.port, "-n", 20, "-S", 20, *services.STREAM, "-e", 100, "-f", 1)
            time.sleep(0.3)
        assert (got.seen["done"], got.faults) == (20, 0), got
        found = counts.per(2000, "worker")
        if calls:
            found["worker.syscalls"] = sum(calls.values()) / 2000
        return found


def allowed(name: str) -> float:
    """Return by which share a count may exceed its baseline."""
    return TOLERANCE[max((known for known in TOLERANCE if name.startswith(known)), key=len)]


def compare(found: Counts, baseline: Counts) -> list[str]:
    """Print every count beside its baseline; return those that have grown too much."""
    worse = []
    for name in sorted({*found, *baseline}):
        now, before = found.get(name), baseline.get(name)
        if now is None or before is None:
            print(f"{name:28} {'not measured here' if now is None else f'{now:10.3f}  (new)'}")
            continue
        verdict = "WORSE" if now > before * (1 + allowed(name)) else ""
        print(f"{name:28} {now:10.3f}  baseline {before:10.3f}  {now / before - 1:+6.1%}  {verdict}")
        if verdict:
            worse.append(name)
    return worse


def main() -> int:
    """Run as a command; the status is 1 if something has grown."""
    began = time.monotonic()
    found: Counts = {**live(), **catch_up(), **worker(), **snapshots.counted()}
    if "--write" in sys.argv:
        BASELINE.write_text(
            json.dumps({name: round(value, 4) for name, value in sorted(found.items())}, indent=2) + "\n"
        )
    worse = compare(found, json.loads(BASELINE.read_text()))
    print(f"{time.monotonic() - began:.0f} s")
    if worse:
        print(f"grown beyond tolerance: {', '.join(worse)}. If that is meant: make bench-quick ARGS=--write")
    return bool(worse)


if __name__ == "__main__":
    sys.exit(main())
