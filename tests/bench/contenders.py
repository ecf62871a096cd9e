"""Owns the contenders: how each is started, how events get to it, and where its streams are."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import services
from tests.bench.rig import BUILD, HERE, MEASURED, Rig, python

NODE = BUILD / "node"
PEERS_PYTHON = BUILD / "peers" / "bin" / "python"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
PATH = ("-u", "/sse/%d")


@dataclass(frozen=True)
class Contender:
    """One way to get events from a writer to viewers. `mode` is the event source's; `here`: whether it can run."""

    name: str
    mode: str
    serve: Callable[[Rig], None]
    here: Callable[[], bool]
    stream: tuple[str, ...] = PATH

    def prepare(self, it: Rig, streams: int) -> None:
        """Make what must exist before viewers come."""
        if self.mode == "append":
            it.run([python(), "-m", "tests.bench.own", it.redis_url, str(streams), str(it.folder / "owned.txt")])

    def write(self, it: Rig, streams: int, rate: float, seconds: float, backfill: int = 0) -> subprocess.Popen[bytes]:
        """Start the event source. The one of resumable-stream writes live events once it gets SIGUSR2."""
        if self.mode == "resumable":
            numbers = map(str, (streams, rate, seconds, backfill))
            env = {"PEERS": str(NODE), "REDIS_PORT": str(it.redis_port)}
            command = ["node", str(HERE / "peers" / "resumable.mjs"), "source", *numbers]
            source = it.spawn("source", command, env=env, stdout=subprocess.PIPE)
            assert source.stdout is not None
            while b"written" not in (said := source.stdout.readline()):
                if not said:
                    raise RuntimeError("resumable-stream's source died")
            return source
        port = it.port if self.mode == "post" else it.redis_port
        where = ["-p", str(port), "-f", str(it.folder / "owned.txt"), "-S", str(streams), "-B", str(backfill)]
        pace = ["-R", str(rate), "-d", str(seconds)]
        return it.spawn("source", [str(BUILD / "produce"), "-m", self.mode, *where, *pace], stdout=subprocess.PIPE)

    @property
    def before(self) -> bool:
        """Whether the source must run before viewers can connect."""
        return self.mode == "resumable"


def go(source: subprocess.Popen[bytes]) -> None:
    """Have a source that waits begin."""
    source.send_signal(signal.SIGUSR2)


def _tailrace(it: Rig) -> None:
    services.gateway(it)


def _plain_asgi(it: Rig) -> None:
    services.gateway(it, TAILRACE_DIRECT_WRITES="false")


def _naive(it: Rig) -> None:
    options = [
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--no-access-log",
        "--log-level",
        "warning",
        "--backlog",
        "4096",
    ]
    command = [str(PEERS_PYTHON), "-m", "uvicorn", "--app-dir", str(HERE / "peers"), "--port", str(it.port), *options]
    it.spawn("server", [*command, "naive:app"], core=MEASURED, env={"REDIS_PORT": str(it.redis_port)})


def _node(raw: bool) -> Callable[[Rig], None]:
    def serve(it: Rig) -> None:
        env = {"PEERS": str(NODE), "REDIS_PORT": str(it.redis_port), "PORT": str(it.port), "RAW": "1" if raw else "0"}
        it.spawn("server", ["node", str(HERE / "peers" / "node.mjs")], core=MEASURED, env=env)

    return serve


def _resumable(it: Rig) -> None:
    env = {"PEERS": str(NODE), "REDIS_PORT": str(it.redis_port), "PORT": str(it.port)}
    it.spawn("server", ["node", str(HERE / "peers" / "resumable.mjs"), "gateway"], core=MEASURED, env=env)


def _nchan(it: Rig) -> None:
    form = (HERE / "peers" / "nchan.conf").read_text()
    path = it.folder / "nginx.conf"
    path.write_text(form.replace("@RUN@", str(it.folder)).replace("@PORT@", str(it.port)))
    it.spawn("server", ["nginx", "-c", str(path), "-p", str(it.folder)], core=MEASURED)


def _has_node() -> bool:
    return shutil.which("node") is not None and (NODE / "node_modules" / "ioredis").exists()


CONTENDERS = {
    each.name: each
    for each in (
        Contender("tailrace", "append", _tailrace, lambda: True, services.STREAM),
        Contender("tailrace_asgi", "append", _plain_asgi, lambda: True, services.STREAM),
        Contender("naive_py", "xadd", _naive, PEERS_PYTHON.exists),
        Contender("node", "xaddpub", _node(False), _has_node),
        Contender("node_raw", "xaddpub", _node(True), _has_node),
        Contender("resumable", "resumable", _resumable, _has_node),
        Contender("nchan_mem", "post", _nchan, NCHAN.exists),
    )
}
