"""Which children run, in which order, with which settings."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.local import upstreams
from deploy.local.child import ChildSpec
from deploy.local.ports import find_free
from deploy.local.probe import http_ok, redis_ok
from deploy.local.settings import LaunchSettings


def make_plan(settings: LaunchSettings, redis_server: str) -> list[list[ChildSpec]]:
    """Return the children in stages; a stage needs the ones before it. Writes the models file they read."""
    redis_port, model_port, health_port = find_free(settings.host, 3)
    models = upstreams.openai(settings.openai) if settings.openai else upstreams.scripted(model_port)
    models_file = settings.run_dir / "upstreams.toml"
    upstreams.write(models_file, models)
    common = {
        "TAILRACE_REDIS_URL": f"redis://{settings.host}:{redis_port}/0",
        "TAILRACE_UPSTREAMS_FILE": str(models_file),
        "TAILRACE_LOCAL": "1",
        # Who kills the worker on the page waits for its lease: on one machine nothing needs the usual 8 s.
        "TAILRACE_LEASE_MS": "3000",
        "TAILRACE_LOCAL_PIDFILE": str(settings.run_dir / "children.json"),
        "TAILRACE_LOCAL_PEERS": ",".join(f"http://{settings.host}:{port}" for port in settings.ports),
    }
    first = [_redis(settings, redis_server, redis_port)]
    if settings.openai is None:
        first.append(_model(settings.host, model_port))
    gateways = [
        _gateway(f"gateway-{number}", settings.host, port, common) for number, port in enumerate(settings.ports, 1)
    ]
    # Gateways go down before the worker does, and both before Redis.
    return [first, [_worker(settings.host, health_port, common)], gateways]


def _redis(settings: LaunchSettings, program: str, port: int) -> ChildSpec:
    data = settings.run_dir / "redis"
    data.mkdir(exist_ok=True)
    options = {
        "bind": settings.host,
        "port": str(port),
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        # Dropping a key to make room would cut an answer in the middle.
        "maxmemory-policy": "noeviction",
    }
    argv = (program, *(part for key, value in options.items() for part in (f"--{key}", value)))
    # Its warnings are about kernel settings of a production host.
    return ChildSpec(name="redis", argv=argv, ready=redis_ok(settings.host, port), show_warnings=False)


def _model(host: str, port: int) -> ChildSpec:
    argv = _module("deploy.scripted_model", "--port", str(port))
    return ChildSpec(name="model", argv=argv, ready=http_ok(host, port, "/healthz"), stop_within_s=2.0)


# Both services drain for a second: Ctrl-C should not take the time that a production drain does.
def _worker(host: str, health_port: int, common: dict[str, str]) -> ChildSpec:
    env = {
        **common,
        "TAILRACE_WORKER_HEALTH_HOST": host,
        "TAILRACE_WORKER_HEALTH_PORT": str(health_port),
        "TAILRACE_WORKER_DRAIN_S": "1",
    }
    return ChildSpec(name="worker", argv=_module("worker"), env=env, ready=http_ok(host, health_port, "/readyz"))


def _gateway(name: str, host: str, port: int, common: dict[str, str]) -> ChildSpec:
    env = {**common, "TAILRACE_HOST": host, "TAILRACE_PORT": str(port), "TAILRACE_DRAIN_S": "1"}
    return ChildSpec(name=name, argv=_module("gateway"), env=env, ready=http_ok(host, port, "/readyz"))


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(Path(sys.executable)), "-m", name, *arguments)
