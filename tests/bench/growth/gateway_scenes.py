"""Owns the scenes about gateways: silent viewers, viewers of one stream, catch-up of long streams, more gateways."""

from __future__ import annotations

import time

from tests.bench import services
from tests.bench.growth.meter import Meter, Values, Viewers, a_second
from tests.bench.quick import owned, produce
from tests.bench.rig import rig
from tests.support.ports import free_port

READERS = 10
FAN_STREAMS = 300
MOST_A_SECOND = 30_000


def silent(viewers: int, span: float) -> Values:
    """So many viewers, each of a silent stream of its own: what they cost a second."""
    with rig() as it:
        it.redis()
        owned(it, viewers)
        services.gateway(it)
        time.sleep(0.3)
        meter = Meter(it, gateway=["server"])
        load = Viewers(it, viewers, "-S", viewers, *services.STREAM, "-i")
        load.connected()
        time.sleep(span / 4)
        meter.begin()
        time.sleep(span)  # four seconds see every periodic look at a silent stream
        found = meter.end()
        seen = load.end()
        it.end(hard=True)
        return {**a_second(found), "faults": seen["faults"]}


def watched(viewers: int, span: float) -> Values:
    """So many viewers of one stream: what one event costs."""
    with rig() as it:
        it.redis()
        file = owned(it, 1)
        services.gateway(it)
        time.sleep(0.3)
        meter = Meter(it, gateway=["server"], redis=["redis"])
        load = Viewers(it, viewers, "-S", 1, *services.STREAM)
        load.connected()
        time.sleep(0.3)
        meter.begin()
        rate = min(10.0, MOST_A_SECOND / viewers)  # beyond what a core delivers, events would be joined
        events = max(4, int(rate * span / 2))
        produce(it, 1, rate, events / rate, file).wait()
        time.sleep(0.3)
        found, seen = meter.end(per=events), load.end()
        it.end(hard=True)
        return {**found, "faults": seen["faults"] + viewers * events - seen["events"]}


def stored(events: int, span: float) -> Values:
    """A stream of so many stored events: writing it, and what each of ten viewers costs who wants all of it."""
    with rig() as it:
        it.redis()
        file = owned(it, 1)
        services.gateway(it)
        time.sleep(0.3)
        meter = Meter(it, gateway=["server"], redis=["redis"])
        meter.begin()
        produce(it, 1, 0, 0, file, "-B", str(events)).wait()
        writing = meter.end()
        meter.begin()
        seen = Viewers(it, READERS, "-S", 1, *services.STREAM, "-e", events, "-f", 1).done()
        time.sleep(0.1)
        found = meter.end(per=READERS, peak=True)
        missing = READERS - seen["done"]
        it.end(hard=True)
        return {**found, "redis_write_ms": writing["redis_ms"], "faults": seen["faults"] + missing}


def gateways(replicas: int, span: float) -> Values:
    """So many gateways, each with a viewer of every stream: what one event to all of them costs."""
    with rig() as it:
        it.redis()
        file = owned(it, FAN_STREAMS)
        names = [f"gateway{number}" for number in range(replicas)]
        ports = [free_port() for _ in names]
        for name, port in zip(names, ports, strict=True):
            services.gateway(it, name=name, port=port)
        time.sleep(0.3)
        meter = Meter(it, gateway=names, redis=["redis"])
        args = ("-S", FAN_STREAMS, *services.STREAM)
        loads = [Viewers(it, FAN_STREAMS, *args, port=port) for port in ports]
        for load in loads:
            load.connected()
        time.sleep(0.3)
        meter.begin()
        events = FAN_STREAMS * int(5 * span)
        produce(it, FAN_STREAMS, 5, span, file).wait()
        time.sleep(0.3)
        found = meter.end(per=events)
        seen = [load.end() for load in loads]
        missing = replicas * events - sum(each["events"] for each in seen)
        it.end(hard=True)
        return {**found, "faults": sum(each["faults"] for each in seen) + missing}
