"""The proxy in front, run with its own file: what it says by itself on `/v1` makes no SDK pay twice."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_port
from tests.support.redis import skip_or_fail
from tests.support.wait import wait_until

CONF = (Path(__file__).resolve().parents[2] / "deploy" / "docker" / "nginx.conf").read_text(encoding="utf-8")
OWN_502 = b"HTTP/1.1 502 Bad Gateway\r\nx-should-retry: true\r\nContent-Length: 3\r\n\r\nown"
NOT_STARTED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"


def here(folder: Path, port: int, backend: int) -> str:
    """Return the file for this machine: other ports and folders, one gateway, a time-out that can be waited for."""
    conf = CONF.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("pid /run/", f"pid {folder}/")
    conf = conf.replace("set $gateways gateway;", "set $gateways 127.0.0.1;").replace(":8000", f":{backend}")
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf = conf.replace("http {", f"http {{ {temporary}", 1).replace("3700s", "1s")
    return re.sub(r"/var/log/nginx/(\w+)\.log", rf"{folder}/\1.log", conf)


async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as the path says: with an error of its own, never, or by breaking the connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    try:
        if b"own" in head:
            writer.write(OWN_502)
        elif b"not-started" in head:
            writer.write(NOT_STARTED)
        elif b"never" in head:
            await reader.read()
        await writer.drain()
    finally:
        writer.close()


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the proxy."""
    binary = shutil.which("nginx")
    if binary is None:
        skip_or_fail("no nginx on PATH")
    server = await asyncio.start_server(gateway, "127.0.0.1", 0)
    port = free_port()
    (tmp_path / "nginx.conf").write_text(here(tmp_path, port, server.sockets[0].getsockname()[1]), encoding="utf-8")
    argv = [binary, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"]
    process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:

            async def up() -> bool:
                assert process.returncode is None
                try:
                    return (await client.get("/nginx-health")).status_code == 200
                except httpx.ConnectError:
                    return False

            await wait_until(up)
            yield client
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)
        server.close()


@pytest.mark.parametrize(("path", "status"), [("/v1/breaks", 502), ("/v1/never", 504)])
async def test_what_the_proxy_cannot_know_is_not_repeated(proxy: httpx.AsyncClient, path: str, status: int) -> None:
    reply = await proxy.post(path, json={})
    assert (reply.status_code, reply.headers["x-should-retry"]) == (status, "false")
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


async def test_what_a_gateway_says_is_left_as_it_is(proxy: httpx.AsyncClient) -> None:
    own = await proxy.post("/v1/own", json={})
    assert (own.status_code, own.headers["x-should-retry"], own.text) == (502, "true", "own")
    refused = await proxy.post("/v1/not-started", json={})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert "x-should-retry" not in refused.headers


async def test_elsewhere_the_proxy_says_nothing_of_the_kind(proxy: httpx.AsyncClient) -> None:
    reply = await proxy.post("/chats/c/breaks", json={})
    assert reply.status_code == 502
    assert "x-should-retry" not in reply.headers


def test_the_proxy_waits_longer_than_any_answer_may_take() -> None:
    [block] = re.findall(r"location /v1/ \{(.*?)\n        \}", CONF, re.DOTALL)
    [seconds] = re.findall(r"proxy_read_timeout (\d+)s;", block)
    assert int(seconds) >= 3600
