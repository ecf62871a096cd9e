"""Owns the scenarios: each runs one contender once and returns what it cost; rows disturbed from outside say so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.bench.contenders import Contender, go
from tests.bench.rig import Load, Rig, rig, rss_kb

DISTURBED = 0.25
"""Share of the measured core that others may take."""


@dataclass
class Row:
    """One run: named values, faults (must be none), and whether the machine was ours."""

    values: dict[str, float]
    faults: int
    foreign: float


def _up(it: Rig, who: Contender, streams: int) -> None:
    it.redis()
    who.prepare(it, streams)
    who.serve(it)
    it.wait_port(it.port)


def live(who: Contender, viewers: int, streams: int, rate: float, span: float = 4.0, warm: float = 1.5) -> Row:
    """Viewers over streams, `rate` events a second and stream."""
    with rig() as it:
        _up(it, who, streams)
        seconds = span + warm + 1.0
        ready: Callable[[], object]
        if who.before:
            ready = partial(go, who.write(it, streams, rate, seconds))
        else:
            ready = partial(who.write, it, streams, rate, seconds)
        got = it.load(
            "-p", it.port, "-n", viewers, "-S", streams, *who.stream, "-w", warm, "-d", span, "-t", 30, on_ready=ready
        )
        return _row(got, delivered=got.seen["events"] / (viewers * rate * got.seen["seconds"]))


def catch_up(who: Contender, viewers: int, events: int, streams: int = 1) -> Row:
    """New viewers who want the whole of stored streams."""
    with rig() as it:
        _up(it, who, streams)
        source = who.write(it, streams, 0, 0, events)
        if who.before:
            time.sleep(1.0)
        else:
            source.wait(60)
        got = it.load(
            "-p", it.port, "-n", viewers, "-S", streams, *who.stream, "-e", events, "-f", 1, "-t", 60, "-c", 256
        )
        missing = viewers - int(got.seen["done"])
        row = _row(got, last_ms=got.seen["last_ms"], each_ms=got.seen["each_ms"])
        row.faults += missing
        return row


def idle(who: Contender, viewers: int, span: float = 5.0) -> Row:
    """Viewers of as many silent streams."""
    with rig() as it:
        _up(it, who, viewers)
        if who.before:
            who.write(it, viewers, 0, 0)
        elif who.mode == "append":
            who.write(it, viewers, 0, 60)  # heartbeats, as from any worker
        server = it.pids["server"]
        time.sleep(1.0)
        empty = rss_kb(server)
        got = it.load("-p", it.port, "-n", viewers, "-S", viewers, *who.stream, "-i", "-w", 2, "-d", span, "-t", 60)
        kb = (got.rss["server"] - empty) / max(1, int(got.seen["ready"]))
        row = _row(got, kb_per_viewer=kb, idle_cpu_percent=100 * got.cpu["server"] / got.seen["seconds"])
        return row


def join(who: Contender, viewers: int, rate: float) -> Row:
    """Viewers who come while events do: everybody must get all from the first on."""
    with rig() as it:
        _up(it, who, viewers)
        source = who.write(it, viewers, rate, 8)
        if who.before:
            go(source)
        time.sleep(1.5)
        got = it.load(
            "-p", it.port, "-n", viewers, "-S", viewers, *who.stream, "-w", 0.5, "-d", 4, "-f", 1, "-t", 30, "-c", 64
        )
        return _row(got)


def resume(who: Contender, viewers: int, events: int, after: int) -> Row:
    """Viewers who have `after` events of a stored stream and want the rest."""
    with rig() as it:
        _up(it, who, 1)
        who.write(it, 1, 0, 0, events).wait(60)
        last = f"{after}-0"
        if who.mode == "append":
            owned = (it.folder / "owned.txt").read_text().split("\n")[1].split()
            last = f"{owned[3]}-{int(owned[4]) - 1 + after}"
        wanted = ("-e", events - after, "-f", after + 1, "-H", f"Last-Event-ID: {last}")
        got = it.load("-p", it.port, "-n", viewers, "-S", 1, *who.stream, *wanted, "-t", 30)
        row = _row(got, last_ms=got.seen["last_ms"])
        row.faults += viewers - int(got.seen["done"])
        return row


def _row(got: Load, **values: float) -> Row:
    for name in ("p50_ms", "p99_ms"):
        values[name] = got.seen[name]
    values["cpu"] = got.cpu_per_100k
    values["redis_cpu"] = 1e5 * got.cpu["redis"] / max(1, int(got.seen["events"]))
    return Row(values, got.faults, got.foreign)
