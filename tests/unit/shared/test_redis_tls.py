"""Over TLS neither connection to Redis says its password to a server that is not the one of its URL."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError
from redis.exceptions import RedisError

from shared.errors import Unavailable
from shared.redis import command_link, connection_pool
from shared.settings import SharedSettings, faults
from tests.support.wait import wait_until

PASSWORD = "a-password-of-the-tests"
HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
ELSEWHERE = x509.DNSName("redis.elsewhere.example")


async def by_link(url: str) -> None:
    link = command_link(url, name="test")
    try:
        await link.open(wait_s=2)
    finally:
        await link.close()


async def by_pool(url: str) -> None:
    pool = connection_pool(url)
    try:
        await pool.get_connection()
    finally:
        await pool.disconnect()


def certificate(folder: Path, name: x509.GeneralName) -> ssl.SSLContext:
    """Make `folder/ca.pem`, which signs itself, for a server of that name; return the server's side of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "ca.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, plain, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    return context


@asynccontextmanager
async def listener(context: ssl.SSLContext) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Listen as a Redis that agrees to everything; yield its URL and what it hears."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while said := await reader.read(4096):
                heard.append(said)
                writer.write(b"+OK\r\n" * said.count(b"*"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"rediss://:{PASSWORD}@127.0.0.1:{server.sockets[0].getsockname()[1]}", heard


@pytest.mark.parametrize("connect", [by_link, by_pool])
@pytest.mark.parametrize("name", [HERE, ELSEWHERE], ids=["its own", "another one"])
async def test_only_the_server_of_the_url_hears_the_password(
    connect: Callable[[str], Awaitable[None]],
    name: x509.GeneralName,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both certificates are good, and one is another server's."""
    context = certificate(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with listener(context) as (url, heard):
        with suppress(Unavailable, RedisError, ssl.SSLError):
            await connect(url)
    assert (PASSWORD.encode() in b"".join(heard)) == (name is HERE)


@pytest.mark.parametrize("connect", [by_link, by_pool])
@pytest.mark.parametrize("client", [True, False], ids=["with a certificate", "without one"])
async def test_a_server_of_a_private_authority_that_asks_for_certificates_is_reached(
    connect: Callable[[str], Awaitable[None]], client: bool, tmp_path: Path
) -> None:
    """As a Redis does that has nothing else set than its own files."""
    context = certificate(tmp_path, HERE)
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    files = f"?ssl_ca_certs={tmp_path / 'ca.pem'}"
    if client:
        files += f"&ssl_certfile={tmp_path / 'ca.pem'}&ssl_keyfile={tmp_path / 'key.pem'}"
    async with listener(context) as (url, heard):
        with suppress(Unavailable, RedisError, ssl.SSLError):
            await connect(url + files)
    assert (PASSWORD.encode() in b"".join(heard)) == client


async def test_a_certificate_that_was_renewed_is_shown_without_a_restart(tmp_path: Path) -> None:
    """It is read when a connection is made: files in a pod are exchanged days before they expire."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    context = certificate(new, HERE)
    context.load_verify_locations(new / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    certificate(old, HERE)
    mounted = tmp_path / "mounted"
    mounted.symlink_to(old)
    files = f"?ssl_ca_certs={mounted}/ca.pem&ssl_certfile={mounted}/ca.pem&ssl_keyfile={mounted}/key.pem"
    async with listener(context) as (url, heard):
        link = command_link(url + files, name="test")
        try:
            await link.open()
            mounted.unlink()
            mounted.symlink_to(new)
            await wait_until(lambda: PASSWORD.encode() in b"".join(heard))
        finally:
            await link.close()


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile"])
def test_a_file_that_cannot_be_read_is_found_at_the_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_REDIS_URL", f"rediss://:{PASSWORD}@h?{name}=/no/such/file")
    with pytest.raises(ValidationError) as raised:
        SharedSettings()
    (told,) = faults(raised.value)
    assert told == f"TAILRACE_REDIS_URL: {name} of a Redis URL cannot be used: No such file or directory"
