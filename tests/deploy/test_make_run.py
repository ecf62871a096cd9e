"""`make run`, as a newcomer meets it: one launch that most tests share, and the ways a launch is refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.deploy import native
from tests.deploy.program import Program, running
from tests.support.ports import free_pair, free_port

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 45
pytestmark = pytest.mark.asyncio(loop_scope="module")


def command(port: int) -> list[str]:
    # The environment the tests run in is the one to use; its stamp counts as fresh whatever the clock says.
    return ["make", "-o", f"{sys.prefix}/.locked", f"VENV={sys.prefix}", f"PORT={port}", "run"]


def environment(run_dir: Path, **more: str) -> dict[str, str]:
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "TAILRACE_", "MAKE"))}
    return {**bare, "TAILRACE_RUN_DIR": str(run_dir), **more}


@dataclass(frozen=True, slots=True)
class Launch:
    """A running `make run`."""

    program: Program
    run_dir: Path
    port: int

    @property
    def first(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def second(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}"

    def pids(self) -> dict[str, int]:
        told: dict[str, int] = json.loads((self.run_dir / "children.json").read_text())
        return told

    async def kill(self, name: str) -> None:
        """kill -9 a child and return at once."""
        os.kill(self.pids()[name], signal.SIGKILL)

    async def wait_back(self, name: str, *, since: int) -> None:
        await self.program.wait_line(f"{name} is back", within_s=READY_WITHIN_S, after=since)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def launch(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Launch]:
    run_dir, port = tmp_path_factory.mktemp("run"), free_pair()
    async with running(command(port), env=environment(run_dir), cwd=ROOT) as program:
        await program.wait_line("Tailrace is ready", within_s=READY_WITHIN_S)
        yield Launch(program, run_dir, port)


async def test_it_ends_by_saying_what_to_open(launch: Launch) -> None:
    assert f"open {launch.first}/ " in await launch.program.wait_line("Tailrace is ready", within_s=1)
    assert "curl -N" in launch.program.output
    assert "warning" not in launch.program.output
    assert set(launch.pids()) == {"redis", "model", "worker", "gateway-1", "gateway-2"}


async def test_an_answer_cut_on_one_gateway_goes_on_at_the_other(launch: Launch) -> None:
    async with native.connect(launch.first) as first, native.connect(launch.second) as second:
        path = await native.start(first, "cut", "Tell me about rivers")
        head = await native.read(first, path, frames=7)
        tail = await native.read(second, path, after=head[-1].id)
        whole = await native.read(second, path)
    assert tail[-1].is_end
    assert [frame.raw for frame in head + tail] == [frame.raw for frame in whole]
    assert native.text_of(whole)


async def test_an_answer_survives_its_gateway_and_its_worker(launch: Launch) -> None:
    async with native.connect(launch.first) as first, native.connect(launch.second) as second:
        path = await native.start(first, "survive", "Tell me about mountains")
        head = await native.read(first, path, frames=5)
        since = len(launch.program.lines)
        await launch.kill("gateway-1")
        await launch.kill("worker")
        tail = await native.read(second, path, after=head[-1].id)
        assert tail[-1].is_end
        assert tail[-1].data["state"] == "done"
        await launch.wait_back("gateway-1", since=since)
        await launch.wait_back("worker", since=since)
    async with native.connect(launch.first) as again:
        whole = await native.read(again, path)
    assert [frame.raw for frame in head + tail] == [frame.raw for frame in whole]


async def test_redis_comes_back_with_what_it_held(launch: Launch) -> None:
    async with native.connect(launch.first) as first:
        path = await native.start(first, "kept", "Tell me about lakes")
        before = await native.read(first, path)
        since = len(launch.program.lines)
        await launch.kill("redis")
        await launch.wait_back("redis", since=since)
        # The file is written once a second, so the last second may be missing, but the chat goes on.
        path = await native.start(first, "next", "Tell me about seas")
        after = await native.read(first, path)
    assert before[-1].is_end
    assert after[-1].is_end


async def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    port = free_pair()
    async with running(command(port), env=environment(tmp_path), cwd=ROOT) as program:
        await program.wait_line("Tailrace is ready", within_s=READY_WITHIN_S)
        launch = Launch(program, tmp_path, port)
        pids = launch.pids()
        program.interrupt()
        await program.wait_end(within_s=15)
        assert "Stopped." in program.output
    assert [name for name, pid in pids.items() if alive(pid)] == []
    assert "ERROR" not in program.output


async def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    port = free_pair()
    with socket.create_server(("127.0.0.1", port + 1)):
        async with running(command(port), env=environment(tmp_path), cwd=ROOT) as program:
            assert await program.wait_end(within_s=20) != 0
    assert f"Port {port + 1} on 127.0.0.1 is already in use" in program.output
    assert "make run PORT=" in program.output
    assert os.listdir(tmp_path) == []


async def test_another_model_is_used_where_one_is_named(tmp_path: Path) -> None:
    port, model_port = free_pair(), free_port()
    argv = [sys.executable, "-m", "deploy.scripted_model", "--port", str(model_port)]
    named = {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{model_port}/v1",
        "OPENAI_API_KEY": "a-key",
        "OPENAI_MODEL": "their-model",
    }
    env = environment(tmp_path, **named)
    async with running(argv, env=env, cwd=ROOT), running(command(port), env=env, cwd=ROOT) as program:
        await program.wait_line("Tailrace is ready", within_s=READY_WITHIN_S)
        launch = Launch(program, tmp_path, port)
        assert "model" not in launch.pids()
        assert "their-model" in program.output
        async with native.connect(launch.first) as client:
            frames = await native.read(client, await native.start(client, "own", "Hello"))
    assert frames[-1].is_end
    assert native.text_of(frames)


async def test_a_proxy_for_the_world_outside_does_not_stand_between_its_processes(tmp_path: Path) -> None:
    port, nowhere = free_pair(), f"http://127.0.0.1:{free_port()}"
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), nowhere)
    env = environment(tmp_path, NO_PROXY="intranet.example", **proxies)
    async with running(command(port), env=env, cwd=ROOT) as program:
        await program.wait_line("Tailrace is ready", within_s=READY_WITHIN_S)
        launch = Launch(program, tmp_path, port)
        async with native.connect(launch.first) as client:
            frames = await native.read(client, await native.start(client, "proxied", "Hello"))
    assert frames[-1].data["state"] == "done"


def alive(pid: int) -> bool:
    """Whether the process still runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
