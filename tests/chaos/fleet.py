"""Owns the fleet: the model, workers and gateways as real processes, a pipe on every way between them, their lives.

A process that is replaced keeps its name and its port and begins a new life. Tasks: `_look`, which reads readiness
(for the balancer) and counters, and a reaper of nothing: who ends a process waits for it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.pipe import Balancer, Pipe
from tests.chaos.records import Fault, Life, Recorder, Sample, Setup
from tests.chaos.stores import MASTER, Stores
from tests.chaos.wire import ask
from tests.support.ports import free_port
from tests.support.processes import ROOT, ServerProcess, chat_model, http_get, write_models

READY_WITHIN_S = 120.0
KEYS = "alice-key=acme/alice,bob-key=globex/bob"
_LOOK_EVERY_S = 0.25
_STALL_S = 0.15
RSS = "process_resident_memory_bytes"
PEAK = "peak_resident_memory_bytes"
MODELS = ("continue", "restart", "attach")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """How large, and how quick to notice. `env` are further settings of workers and gateways."""

    workers: int = 3
    gateways: int = 3
    lease_ms: int = 2000
    reap_s: float = 0.3
    worker_drain_s: float = 1.5
    drain_delay_s: float = 0.7
    drain_s: float = 1.5
    rotate_s: float = 30.0
    replicas: int = 1
    grace_s: float = 12.0
    sentinel: bool = False
    """Whether workers and gateways ask Sentinel themselves, in place of a pipe that is led elsewhere."""
    tree: Path = ROOT
    """Whose code the workers and gateways of the beginning run."""
    env: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Member:
    """One place in the fleet, and who fills it."""

    name: str
    role: str
    port: int
    tree: Path
    """Whose code it runs: this one's, or another release's."""
    pipes: dict[str, Pipe] = field(default_factory=dict)
    process: ServerProcess | None = None
    life: Life | None = None
    ready: bool = False
    frozen: bool = False
    values: dict[str, float] = field(default_factory=dict)


class Fleet:
    """Everything that runs. `out` gets logs, records of acknowledgements and the upstream's request log."""

    def __init__(self, settings: FleetSettings, out: Path, recorder: Recorder) -> None:
        self.settings = settings
        self.out = out
        self.recorder = recorder
        self.stores = Stores()
        self.balancer = Balancer()
        self.members: dict[str, Member] = {}
        self.model: ServerProcess | None = None
        self.lives: list[Life] = []
        self._looking: asyncio.Task[None] | None = None
        self.balance_by_readiness = True

    @property
    def workers(self) -> list[Member]:
        return self.of("worker")

    @property
    def gateways(self) -> list[Member]:
        return self.of("gateway")

    @property
    def port(self) -> int:
        """Where clients go."""
        return self.balancer.port

    def of(self, role: str) -> list[Member]:
        """Return the members of one role, the oldest first."""
        return [member for member in self.members.values() if member.role == role]

    async def open(self) -> None:
        """Start everything and wait until it is ready."""
        for folder in ("logs", "acks"):
            (self.out / folder).mkdir(parents=True, exist_ok=True)
        self.recorder.put(Setup(self.settings.lease_ms))
        await self.stores.open()
        self.stores.on_move = self._led_elsewhere
        await self.balancer.open()
        port = free_port()
        journal = str(self.out / "upstream.jsonl")
        arguments = ("-m", "deploy.scripted_model", "--port", str(port), "--log-file", journal)
        self.model = await self._spawn("model", port, arguments, {})
        await self.model.wait_ready("/healthz", READY_WITHIN_S)
        for role, count in (("worker", self.settings.workers), ("gateway", self.settings.gateways)):
            for number in range(1, count + 1):
                await self.add(f"{role}-{number}", role, self.settings.tree)
        await asyncio.gather(*(self.ready(member) for member in self.members.values()))
        self._looking = asyncio.create_task(self._look(), name="fleet-look")

    async def close(self) -> None:
        """Kill what runs and close every pipe."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        for member in list(self.members.values()):
            if member.process is not None and member.process.running:
                member.process.thaw()
                await self._end(member, "killed")
        if self.model is not None:
            await self.model.kill()
        for pipe in [pipe for member in self.members.values() for pipe in member.pipes.values()]:
            await pipe.close()
        await self.balancer.close()
        await self.stores.close()

    async def add(self, name: str, role: str, tree: Path = ROOT) -> Member:
        """Make a place and fill it with what runs the code of `tree`."""
        member = Member(name, role, free_port(), tree)
        targets = {"redis": self.stores.address, "queue": self.stores.queue_address}
        if role == "worker":
            assert self.model is not None
            model_port = self.model.port
            targets["model"] = lambda: ("127.0.0.1", model_port)
        for what, target in targets.items():
            member.pipes[what] = await Pipe(target, f"{name}-{what}").open()
        self.members[name] = member
        await self.start(member)
        return member

    async def start(self, member: Member, **env: object) -> None:
        """Begin a new life in a place; does not wait until it is ready."""
        number = sum(life.name == member.name for life in self.lives) + 1
        values = {**self._env(member, number), **self.settings.env, **env}
        module = "worker" if member.role == "worker" else "gateway"
        member.process = await self._spawn(f"{member.name}.{number}", member.port, ("-m", module), values, member.tree)
        member.life = Life(member.name, number, member.process.pid, time.time())
        member.ready, member.frozen, member.values = False, False, {}
        self.lives.append(member.life)

    async def ready(self, member: Member) -> None:
        """Wait until it says that it is ready."""
        assert member.process is not None
        await member.process.wait_ready("/readyz", READY_WITHIN_S)
        member.ready = True

    async def kill(self, member: Member) -> None:
        """SIGKILL."""
        await self._end(member, "killed")

    async def terminate(self, member: Member, grace_s: float | None = None) -> None:
        """SIGTERM, and SIGKILL if it is still there at the end of the grace period."""
        assert member.process is not None
        assert member.life is not None
        await self._sample(member)
        member.life.asked = time.time()
        member.process.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.settings.grace_s if grace_s is None else grace_s):
                await member.process.process.wait()
            self._over(member, "exit")
        except TimeoutError:
            await self._end(member, "grace")

    async def restart(self, member: Member) -> None:
        """Begin a new life and wait until it is ready."""
        await self.start(member)
        await self.ready(member)

    def freeze(self, member: Member) -> None:
        """SIGSTOP."""
        assert member.process is not None
        member.frozen = True
        member.process.freeze()

    def thaw(self, member: Member) -> None:
        """SIGCONT."""
        assert member.process is not None
        member.frozen = False
        member.process.thaw()

    async def sample(self) -> None:
        """Read everybody's counters."""
        await asyncio.gather(*(self._sample(member) for member in self.members.values()))

    # -- inside

    async def _end(self, member: Member, how: str) -> None:
        assert member.process is not None
        await member.process.kill()
        self._over(member, how)

    def _over(self, member: Member, how: str) -> None:
        life, process = member.life, member.process
        assert life is not None
        assert process is not None
        member.ready = False
        self._balance()
        life.ended, life.how, life.code = time.time(), how, process.process.returncode or 0  # type: ignore[assignment]
        self.recorder.put(life)
        self.recorder.put(Sample(member.name, life.life, time.time(), member.values))

    def _led_elsewhere(self) -> None:
        for member in self.members.values():
            member.pipes["redis"].cut()

    async def _look(self) -> None:
        turn = 0
        while True:
            members = [member for member in self.members.values() if member.process and member.process.running]
            asked = [member for member in members if member.role == "gateway" and not member.frozen]
            statuses = await asyncio.gather(*(http_get(member.port, "/readyz") for member in asked))
            for member, (status, _) in zip(asked, statuses, strict=True):
                member.ready = status == 200
            self._balance()
            if turn % 4 == 0:
                await asyncio.gather(*(self._sample(member) for member in members if not member.frozen))
            turn += 1
            await self._rest()

    async def _rest(self) -> None:
        """Pause, and write down when the machine itself had no time for us: no latency of that time means anything."""
        asleep = time.time()
        await asyncio.sleep(_LOOK_EVERY_S)
        woken = time.time()
        if woken - asleep - _LOOK_EVERY_S > _STALL_S:
            self.recorder.put(Fault(0, "stall", "machine", asleep - 1.0, woken + 1.0))

    def _balance(self) -> None:
        if self.balance_by_readiness:
            ready = [member for member in self.gateways if member.ready]
            self.balancer.endpoints = [(member.name, ("127.0.0.1", member.port)) for member in ready]

    async def _sample(self, member: Member) -> None:
        token = {"authorization": "Bearer alice-key"} if member.role == "gateway" else {}
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                reply = await ask(member.port, "GET", "/metrics", token, within_s=1.0)
                if reply.status == 200:
                    peak = max(member.values.get(PEAK, 0.0), member.values.get(RSS, 0.0))
                    member.values = read_metrics(reply.body.decode())
                    member.values[PEAK] = max(peak, member.values.get(RSS, 0.0))

    def _env(self, member: Member, number: int) -> dict[str, object]:
        settings, pipes = self.settings, member.pipes
        models = self.out / f"models-{member.name}.toml"
        redis_url = f"redis://127.0.0.1:{pipes['redis'].port}/0"
        if settings.sentinel:
            assert self.stores.sentinel is not None
            redis_url = f"sentinel://127.0.0.1:{self.stores.sentinel.port}/{MASTER}"
        common: dict[str, object] = {
            "TAILRACE_REDIS_URL": redis_url,
            "TAILRACE_QUEUE_REDIS_URL": f"redis://127.0.0.1:{pipes['queue'].port}/0",
            "TAILRACE_UPSTREAMS_FILE": models,
            "TAILRACE_LEASE_MS": settings.lease_ms,
            "TAILRACE_WAIT_REPLICAS": settings.replicas,
            "TAILRACE_MAX_ATTEMPTS": 8,
            "TAILRACE_MESSAGE_DEADLINE_S": 180,
            "TAILRACE_QUEUE_TIMEOUT_S": 90,
        }
        write_models(models, _models(pipes["model"].port if "model" in pipes else 1))
        if member.role == "worker":
            return common | {
                "TAILRACE_WORKER_ID": f"{member.name}.{number}",
                "TAILRACE_WORKER_HEALTH_PORT": member.port,
                "TAILRACE_WORKER_DRAIN_S": settings.worker_drain_s,
                "TAILRACE_REAP_S": settings.reap_s,
                "TAILRACE_SWEEP_S": 10,
                "TAILRACE_SILENCE_S": 6,
                "TAILRACE_FIRST_TOKEN_S": 10,
                "TAILRACE_ACKS_FILE": self.out / "acks" / f"{member.name}.{number}.jsonl",
            }
        return common | {
            "TAILRACE_PORT": member.port,
            "TAILRACE_API_KEYS": KEYS,
            "TAILRACE_DRAIN_DELAY_S": settings.drain_delay_s,
            "TAILRACE_DRAIN_S": settings.drain_s,
            "TAILRACE_ROTATE_S": settings.rotate_s,
            "TAILRACE_HEARTBEAT_S": 2,
            "TAILRACE_VIEWER_BUFFER_BYTES": 16_384,
            "TAILRACE_RETRY_MS": 100,
        }

    async def _spawn(
        self, name: str, port: int, arguments: tuple[str, ...], env: Mapping[str, object], tree: Path = ROOT
    ) -> ServerProcess:
        output = self.out / "logs" / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TAILRACE_", "OPENAI_"))}
        values = {key: str(value) for key, value in env.items()}
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with output.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *guard,
                sys.executable,
                *arguments,
                cwd=tree,
                env={**inherited, "PYTHONUNBUFFERED": "1", **values},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=asyncio.subprocess.STDOUT,
            )
        return ServerProcess(name, port, process, output, values)


def _models(port: int) -> list[dict[str, object]]:
    base = chat_model(port)
    return [
        {**base, "name": "continue", "default": True},
        {**base, "name": "restart", "prefill": False, "recovery": "restart"},
        {**base, "name": "attach", "kind": "responses", "upstream_model": "scripted-responses", "prefill": False,
         "background": True},
    ]  # fmt: skip


def read_metrics(text: str) -> dict[str, float]:
    """Return the samples of an exposition by name and labels as they stand."""
    values = {}
    for line in text.splitlines():
        if line and not line.startswith("#") and "_bucket" not in line:
            name, _, value = line.rpartition(" ")
            with suppress(ValueError):
                values[name] = float(value)
    return values
