"""The compose project, from a clean copy to `down`: skipped only where no engine or base image is there."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from tests.deploy import native
from tests.deploy.engine import require_engine, run
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-of-this-test"
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.container,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # the first test builds the images
]


@dataclass(frozen=True, slots=True)
class Project:
    """A compose project that is up."""

    name: str
    folder: Path
    port: int

    async def compose(self, *arguments: str, within_s: float = 120) -> str:
        env = {**os.environ, "TAILRACE_PUBLISH_PORT": str(self.port), "TAILRACE_API_KEYS": f"{KEY}=acme/ada"}
        argv = ("docker", "compose", "-p", self.name, *arguments)
        return await run(*argv, within_s=within_s, env=env, cwd=str(self.folder))

    async def containers(self, service: str) -> list[str]:
        return (await self.compose("ps", "--quiet", service)).split()

    def connect(self, key: str | None = KEY) -> httpx.AsyncClient:
        return native.connect(f"http://127.0.0.1:{self.port}", key=key)

    async def leftovers(self) -> list[str]:
        mine = f"label=com.docker.compose.project={self.name}"
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return [line for kind in kinds for line in (await run("docker", *kind, "-q", "--filter", mine)).split()]


def copy_sources(target: Path) -> None:
    """Copy what a clone would hold once all is committed, so that no ignored file can help."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def project(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Project]:
    require_engine()
    folder = tmp_path_factory.mktemp("clone")
    copy_sources(folder)
    project = Project(f"tailrace-test-{uuid4().hex[:8]}", folder, free_port())
    try:
        try:
            await project.compose("up", "--build", "--wait", within_s=500)
        except AssertionError as error:
            logs = await project.compose("logs", "--no-color", "--tail", "30")
            raise AssertionError(f"{error}\n{logs}") from None
        yield project
        await project.compose("down", "-v", "--rmi", "local")
        assert await project.leftovers() == []
    finally:
        await project.compose("down", "-v", "--rmi", "local", "--timeout", "1")


async def test_two_gateways_answer_only_who_has_a_key(project: Project) -> None:
    assert len(await project.containers("gateway")) == 2
    async with project.connect(key=None) as stranger:
        assert (await stranger.get("/chats/any")).status_code == 401


async def test_an_answer_arrives_as_it_is_written_and_resumes(project: Project) -> None:
    async with project.connect() as client:
        path = await native.start(client, "resume", "Tell me about rivers")
        head = await native.read(client, path, frames=6)
        # A proxy that buffers would have held these back until the end, and this would say so.
        running = (await client.get("/chats/resume")).json()
        tail = await native.read(client, path, after=head[-1].id)
        whole = await native.read(client, path)
    assert [message["state"] for message in running["messages"]] == ["running"]
    assert tail[-1].is_end
    assert [frame.raw for frame in head + tail] == [frame.raw for frame in whole]


async def test_an_answer_survives_the_gateway_it_came_through(project: Project) -> None:
    async with project.connect() as client:
        path = await native.start(client, "killed", "Tell me about mountains")
        head: list[native.Frame] = []
        with pytest.raises(httpx.TransportError):
            await kill_while_watching(project, client, path, head)
        assert not head[-1].is_end
        tail = await native.read(client, path, after=head[-1].id)
        whole = await native.read(client, path)
        assert tail[-1].is_end
        assert [frame.raw for frame in head + tail] == [frame.raw for frame in whole]
        # The one that is left takes new work too.
        again = await native.read(client, await native.start(client, "later", "And now?"))
        assert again[-1].is_end


async def test_each_image_holds_only_what_it_runs(project: Project) -> None:
    absent = "from importlib.util import find_spec; print(find_spec('{}') is None, __import__('os').getuid())"
    for service, package in (("gateway", "openai"), ("worker", "starlette")):
        container = (await project.containers(service))[0]
        told = await run("docker", "exec", container, "python", "-c", absent.format(package))
        assert told.split() == ["True", "10001"], (service, told)


async def test_the_services_end_by_themselves_when_asked(project: Project) -> None:
    containers = await project.containers("gateway") + await project.containers("worker")
    await project.compose("stop", "gateway", "worker")
    codes = [await run("docker", "inspect", "-f", "{{.State.ExitCode}}", each) for each in containers]
    assert {code.strip() for code in codes} == {"0"}


async def kill_while_watching(project: Project, client: httpx.AsyncClient, path: str, got: list[native.Frame]) -> None:
    """Watch into `got`; once something has arrived, kill the gateway it came through, and go on watching."""
    async with asyncio.timeout(40), aclosing(native.watch(client, path)) as stream:
        async for frame in stream:
            got.append(frame)
            if len(got) == 5:
                await run("docker", "kill", await serving(project))


async def serving(project: Project) -> str:
    """Return the gateway container that nginx has its one open connection to."""
    table = await project.compose("exec", "-T", "nginx", "cat", "/proc/net/tcp")
    rows = [line.split() for line in table.splitlines()[1:]]
    remotes = {row[2].split(":")[0] for row in rows if row[2].endswith(":1F40") and row[3] == "01"}
    assert len(remotes) == 1, table
    address = socket.inet_ntoa(bytes.fromhex(remotes.pop())[::-1])
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    for container in await project.containers("gateway"):
        if address in (await run("docker", "inspect", "-f", form, container)).split():
            return container
    raise AssertionError(f"no gateway has the address {address}")
