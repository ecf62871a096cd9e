"""Owns the twelve fault windows: what is done to which part of the fleet, and when; every choice from one seed.

Each window is a coroutine that does its harm within `fault_s` and leaves everything running again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import redis

from shared.dispatch import Dispatcher
from shared.link import Link
from shared.log.keys import ref_of_meta_key
from shared.redis import resolver
from tests.chaos.dump import unfinished
from tests.chaos.fleet import Fleet, Member
from tests.chaos.records import Fault, Loss, Recorder
from tests.chaos.wire import ask

LONG_DOWN_S = 10.0


class Nemesis:
    """Does harm to a fleet."""

    def __init__(self, fleet: Fleet, recorder: Recorder, seed: int, *, fault_s: float) -> None:
        self._fleet = fleet
        self._recorder = recorder
        self._rng = random.Random(f"nemesis-{seed}")
        self._fault_s = fault_s
        self._window = 0
        self._rolled = 3 if fault_s > 10 else 2
        self.windows: dict[int, tuple[str, Callable[[], Awaitable[None]]]] = {
            1: ("gateway SIGKILL, round robin", self.kill_gateways),
            2: ("gateway SIGTERM, rolling", self.roll_gateways),
            3: ("worker SIGKILL", self.kill_workers),
            4: ("worker SIGTERM, rolling, twice", self.roll_workers),
            5: ("SIGSTOP beyond the lease", self.freeze),
            6: ("client storm", self.storm),
            7: ("Redis SIGKILL, with AOF", self.kill_redis),
            8: ("failover with replication lag, workers alive", self.fail_over),
            9: ("failover with lost claims, a worker killed", self.fail_over_and_kill),
            10: ("partitions worker/Redis and gateway/Redis", self.partition),
            11: ("upstream: 429, 500, reset, malformed, hang; cut off", self.bad_upstream),
            12: ("queue lost; a slow network", self.lose_queue),
            # Of no profile: for directed scenarios.
            13: ("links to Redis cut, again and again", self.cut_links),
            14: ("Redis down for 10 s, back with its data", self.redis_down),
            15: ("Redis down for 10 s, back empty", self.redis_lost),
            16: ("nothing at all", self.nothing),
            18: ("every worker killed, three times", self.kill_thrice),
            17: ("failover under real sentinel:// addresses", self.fail_over),
            19: ("slow links to Redis, cut again and again", self.cut_slow_links),
            20: ("every message queued again, while it runs", self.queue_again),
        }

    async def run(self, number: int) -> Fault:
        """Run one window."""
        name, harm = self.windows[number]
        self._window = number
        fault = Fault(number, "window", name, time.time(), 0.0)
        await harm()
        fault.healed = time.time()
        self._recorder.put(fault)
        return fault

    @asynccontextmanager
    async def _fault(self, kind: str, target: str) -> AsyncIterator[None]:
        fault = Fault(self._window, kind, target, time.time(), 0.0)
        try:
            yield
        finally:
            fault.healed = time.time()
            self._recorder.put(fault)

    async def _kill(self, member: Member) -> None:
        async with self._fault("kill", member.name):
            await self._fleet.kill(member)
            await self._fleet.restart(member)

    async def _for_the_window(self, *deeds: Callable[[], Awaitable[None]]) -> None:
        """Do the deeds in turn until the window is over; at least each once."""
        end = time.monotonic() + self._fault_s
        while True:
            for deed in deeds:
                began = time.monotonic()
                await deed()
                await asyncio.sleep(max(0.0, min(1.0, end - began)))
            if time.monotonic() >= end:
                return

    async def kill_gateways(self) -> None:
        gateways = self._fleet.gateways
        first = self._rng.randrange(len(gateways))
        order = gateways[first:] + gateways[:first]
        end = time.monotonic() + self._fault_s
        for member in order:
            await self._kill(member)
            if time.monotonic() > end:
                break

    async def roll_gateways(self) -> None:
        for member in self._shuffled(self._fleet.gateways)[: self._rolled]:
            await self._roll(member)

    async def kill_workers(self) -> None:
        await self._for_the_window(lambda: self._kill(self._rng.choice(self._fleet.workers)))

    async def roll_workers(self) -> None:
        for _ in range(2 if self._fault_s > 10 else 1):
            for member in self._shuffled(self._fleet.workers)[: self._rolled]:
                await self._roll(member)

    async def _roll(self, member: Member) -> None:
        async with self._fault("roll", member.name):
            await self._fleet.terminate(member)
            await self._fleet.restart(member)

    async def freeze(self) -> None:
        """A worker for longer than its lease, two if there is time, a gateway beside."""
        fleet = self._fleet
        lease_s = fleet.settings.lease_ms / 1000
        for _ in range(2 if self._fault_s > 10 else 1):
            workers = self._shuffled(fleet.workers)[: 2 if self._fault_s > 10 else 1]
            gateway = self._rng.choice(fleet.gateways)
            async with self._fault("freeze", " ".join(worker.name for worker in workers)):
                for member in (*workers, gateway):
                    fleet.freeze(member)
                gateway.ready = False
                await asyncio.sleep(max(lease_s + 2.0, min(12.0, self._fault_s / 2)))
                for member in (*workers, gateway):
                    fleet.thaw(member)
            await asyncio.sleep(1.0)

    async def storm(self) -> None:
        async def cut() -> None:
            async with self._fault("cut", "balancer"):
                self._fleet.balancer.cut()

        await self._for_the_window(cut, self._silent_balancer)

    async def _silent_balancer(self) -> None:
        async with self._fault("hold", "balancer"):
            self._fleet.balancer.hold()
            await asyncio.sleep(1.0)
            self._fleet.balancer.release()
            self._fleet.balancer.cut()

    async def kill_redis(self) -> None:
        async with self._fault("redis kill", self._fleet.stores.primary):
            await self._fleet.stores.bounce(min(5.0, self._fault_s / 4))

    async def fail_over(self) -> None:
        await self._fail_over(lambda: None)

    async def fail_over_and_kill(self) -> None:
        victim = self._rng.choice(self._fleet.workers)
        # Claims must fall into the time that is lost: kill one now, its messages are claimed, another dies with them.
        first = self._rng.choice([member for member in self._fleet.workers if member is not victim])
        await self._fleet.kill(first)
        killed: list[asyncio.Task[None]] = []
        lag_s = self._fleet.settings.lease_ms / 1000 + 1.5
        await self._fail_over(lambda: killed.append(asyncio.create_task(self._kill(victim))), lag_s)
        await asyncio.gather(*killed, self._fleet.restart(first))

    async def _fail_over(self, at_cut: Callable[[], None], lag_s: float = 2.0) -> None:
        stores = self._fleet.stores
        async with self._fault("failover", stores.primary):
            began, ended, back = await stores.fail_over(lag_s, at_cut)
        self._recorder.put(Loss(began, ended + 0.2, "tail", back))

    async def partition(self) -> None:
        lease_s = self._fleet.settings.lease_ms / 1000
        worker, gateway = self._rng.choice(self._fleet.workers), self._rng.choice(self._fleet.gateways)
        held = [worker.pipes["redis"], worker.pipes["queue"], gateway.pipes["redis"]]
        async with self._fault("partition", f"{worker.name} {gateway.name}"):
            for pipe in held:
                pipe.hold()
            await asyncio.sleep(max(lease_s + 2.0, min(12.0, self._fault_s * 0.6)))
            for pipe in held:
                pipe.release()

    async def bad_upstream(self) -> None:
        fleet = self._fleet
        assert fleet.model is not None
        share = self._fault_s / 6
        for mode in ("429", "500", "reset", "malformed", "hang"):
            async with self._fault("upstream", mode):
                body = {"mode": mode, "probability": 0.4, "seed": self._rng.randrange(10_000)}
                await ask(fleet.model.port, "POST", "/__faults", {}, body)
                await asyncio.sleep(share / 2)
                for member in fleet.workers:
                    if mode == "reset":
                        member.pipes["model"].cut()
                await asyncio.sleep(share / 2)
        await ask(fleet.model.port, "POST", "/__faults", {}, {"mode": "none"})

    async def lose_queue(self) -> None:
        """Empty and restart the queue, with 200 ms on every way to the log's Redis."""
        fleet = self._fleet
        pipes = [member.pipes["redis"] for member in fleet.members.values()]
        async with self._fault("slow", "redis"):
            for pipe in pipes:
                pipe.delay_s = self._rng.uniform(0.02, 0.1)
            async with self._fault("flush", "queue"):
                for _ in range(3):
                    await asyncio.to_thread(_flush, fleet.stores.queue.port)
                    await asyncio.sleep(self._fault_s / 6)
                await asyncio.to_thread(fleet.stores.queue.restart, keep_data=False)
            await asyncio.sleep(self._fault_s / 4)
            for pipe in pipes:
                pipe.delay_s = 0.0

    async def kill_thrice(self) -> None:
        """Each time once every message has been taken over and has got somewhere."""
        lease_s = self._fleet.settings.lease_ms / 1000
        for _ in range(3):
            await asyncio.gather(*(self._kill(member) for member in self._fleet.workers))
            await asyncio.sleep(lease_s + 2.0)

    async def cut_links(self) -> None:
        end = time.monotonic() + self._fault_s
        while time.monotonic() < end:
            member = self._rng.choice(list(self._fleet.members.values()))
            async with self._fault("links", member.name):
                member.pipes["redis"].cut()
            await asyncio.sleep(0.15)

    async def cut_slow_links(self) -> None:
        """So slow that a cut often falls between a write and its answer."""
        pipes = [worker.pipes["redis"] for worker in self._fleet.workers]
        async with self._fault("slow", "redis"):
            for pipe in pipes:
                pipe.delay_s = 0.05
            await self.cut_links()
            for pipe in pipes:
                pipe.delay_s = 0.0

    async def queue_again(self) -> None:
        """Dispatch what is in flight once more, as retries of starts and over-eager reapers do."""
        end = time.monotonic() + self._fault_s
        stores = self._fleet.stores
        link = Link(resolver(f"redis://127.0.0.1:{stores.queue.port}/0"), name="doubles")
        await link.open()
        try:
            async with self._fault("doubles", "queue"), stores.client() as client:
                while time.monotonic() < end:
                    for key in await unfinished(client):
                        await Dispatcher(link).dispatch(ref_of_meta_key(key))
                    await asyncio.sleep(0.5)
        finally:
            await link.close()

    async def redis_down(self) -> None:
        async with self._fault("redis kill", self._fleet.stores.primary):
            await self._fleet.stores.bounce(LONG_DOWN_S)

    async def redis_lost(self) -> None:
        """Everything that was ever acknowledged is gone, unless its worker still has it."""
        async with self._fault("redis kill", self._fleet.stores.primary):
            killed, back = await self._fleet.stores.wipe(LONG_DOWN_S)
        self._recorder.put(Loss(0.0, killed, "everything", back))

    async def nothing(self) -> None:
        await asyncio.sleep(self._fault_s)

    def _shuffled(self, members: list[Member]) -> list[Member]:
        return self._rng.sample(members, len(members))


def _flush(port: int) -> None:
    with redis.Redis(host="127.0.0.1", port=port, socket_timeout=5) as client:
        client.flushall()
