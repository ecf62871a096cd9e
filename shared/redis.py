"""Owns how a Redis URL becomes a connection: links for the hot paths, redis-py for arq and for Sentinel.

For commands `command_link`, for subscriptions a `Link` on a `resolver`.

Also the boot check that refuses a Redis which could lose a live log by its own configuration.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, RedisError

from shared.cluster import ClusterLink
from shared.commands import Commands
from shared.errors import Unavailable, UnsafeRedis
from shared.link import Link, ReplyError, Target
from shared.nodes import AnyNode, Scout
from shared.slots import Node

OLDEST_REDIS = (6, 2)
RETRY = Retry(ExponentialBackoff(cap=0.5, base=0.02), 3)
"""What redis-py does with a lost connection before it gives up."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a URL says of TLS, under redis-py's names; without `ca` the system's authorities count."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    """Empty: it stands in the certificate's file."""

    def context(self) -> ssl.SSLContext:
        """Read the files; raise `ValueError` naming the one that cannot be used."""
        name = "ssl_ca_certs"
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            name = "ssl_certfile"
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None, password="")  # or it would be asked for
        except OSError as error:
            raise ValueError(f"{name} of a Redis URL cannot be used: {error.strerror or error}") from None
        return context


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed Redis URL."""

    hosts: tuple[tuple[str, int], ...]
    path: str | None
    service: str | None
    username: str | None
    password: str | None
    database: int
    tls: TlsFiles | None
    cluster: bool = False


CLUSTER_SCHEMES = ("cluster", "clusters")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SCHEMES = ("redis", "rediss", "unix", "sentinel", *CLUSTER_SCHEMES)


def is_cluster(url: str) -> bool:
    """Tell whether a Redis URL names a cluster; also of a URL that is wrong otherwise."""
    return urlsplit(url).scheme in CLUSTER_SCHEMES


def parse_url(url: str) -> RedisUrl:
    """Read a Redis URL; raise `ValueError` naming what is wrong with it.

    `redis://[[user]:password@]host[:port][/db]`, `rediss://` (TLS), `unix://[[user]:password@]/path[?db=n]`,
    `sentinel://[[user]:password@]host:port[,host:port...]/service[/db]`,
    `cluster://[[user]:password@]host:port[,host:port...]`, `clusters://` (TLS).
    With TLS, `?ssl_ca_certs=/path&ssl_certfile=/path&ssl_keyfile=/path`: who signs servers, and what is shown to them.
    User and password are Redis', and Sentinels that ask are told the same.
    """
    parts = _split(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError("a Redis URL begins with redis://, rediss://, unix://, sentinel://, cluster:// or clusters://")
    credentials, _, place = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    segments = [segment for segment in parts.path.split("/") if segment]
    service = None
    path = None
    if parts.scheme == "unix":
        if not segments:
            raise ValueError("a unix:// Redis URL names its socket: unix:///path/to/socket")
        path, segments = parts.path, []
    elif parts.scheme == "sentinel":
        if not segments:
            raise ValueError("a sentinel:// Redis URL names its service: sentinel://host:26379/service")
        service, segments = segments[0], segments[1:]
    cluster = parts.scheme in CLUSTER_SCHEMES
    hosts = (place or "127.0.0.1").split(",")
    if len(segments) > 1 or (len(hosts) > 1 and service is None and not cluster):
        raise ValueError(
            "a Redis URL has one host and one database; only sentinel:// and cluster:// take a list of hosts"
        )
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if query.keys() - {"db", *_TLS_FILES}:  # unnamed: where a password was not encoded, it is part of that
        raise ValueError(f"a Redis URL takes no other parameters than db, {', '.join(_TLS_FILES)}")
    query_db = query.get("db", "0")
    database = _number(segments[0] if segments else query_db, "database", 2**31 - 1)
    if cluster and database:
        raise ValueError("a cluster:// Redis URL names no database: a cluster has number 0 alone")
    default_port = 26379 if service else 6379
    return RedisUrl(
        hosts=tuple(_host(item, default_port) for item in hosts),
        path=path,
        service=service,
        username=unquote(username) or None,
        password=unquote(password) or None,
        database=database,
        tls=_tls(parts.scheme, query),
        cluster=cluster,
    )


def _tls(scheme: str, query: dict[str, str]) -> TlsFiles | None:
    files = [query.get(name, "") for name in _TLS_FILES]
    if "ssl_keyfile" in query and "ssl_certfile" not in query:
        raise ValueError("a Redis URL with ssl_keyfile has ssl_certfile too")
    if scheme in ("rediss", "clusters"):
        return TlsFiles(*files)
    if any(files):
        raise ValueError("a Redis URL with files for TLS begins with rediss:// or clusters://")
    return None


def check_url(url: str) -> None:
    """Raise `ValueError` if a Redis URL is wrong, or names a file that cannot be used."""
    parsed = parse_url(url)
    if parsed.tls:
        parsed.tls.context()


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # which may quote the password
        raise ValueError("a Redis URL has a host that cannot be read: check its brackets and characters") from None


def _host(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        return text.strip("[]"), default_port
    return host.strip("[]"), _number(port, "port", 65_535)


def _number(text: str, what: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise ValueError(f"the {what} in a Redis URL is a number up to {most}")
    return int(text)


def resolver(url: str) -> Callable[[], Awaitable[Target]]:
    """Return a function that says where the master is now, each time anew (through Sentinel where there is one).

    Of a cluster it names any node that serves: right for subscriptions, which every node of a cluster takes.
    """
    parsed = parse_url(url)
    if parsed.cluster:
        return AnyNode(_scout(parsed))
    system = parsed.tls.context() if parsed.tls else None

    async def resolve() -> Target:
        # Files are exchanged while we run; the system's authorities are many, and read once.
        tls = parsed.tls.context() if parsed.tls and parsed.tls != TlsFiles() else system
        if parsed.service is not None:
            address: tuple[str, int] | str = await _ask_sentinels(parsed)
        else:
            address = parsed.path or parsed.hosts[0]
        return Target(address, parsed.username, parsed.password, parsed.database, tls)

    return resolve


def command_link(url: str, *, name: str, reply_timeout_s: float = 5.0) -> Commands:
    """Return a link for commands, not yet open: to one primary, or to all of a cluster's."""
    parsed = parse_url(url)
    if parsed.cluster:
        return ClusterLink(_scout(parsed), name=name, reply_timeout_s=reply_timeout_s)
    return Link(resolver(url), name=name, reply_timeout_s=reply_timeout_s)


def _scout(parsed: RedisUrl) -> Scout:
    tls = parsed.tls.context() if parsed.tls else None

    def introduce(node: Node) -> Target:
        return Target(node, parsed.username, parsed.password, 0, tls)

    return Scout(parsed.hosts, introduce)


async def _ask_sentinels(parsed: RedisUrl) -> tuple[str, int]:
    assert parsed.service is not None
    sentinels = _sentinels(parsed)
    try:
        host, port = await sentinels.discover_master(parsed.service)
    except RedisError as error:
        raise Unavailable(f"no sentinel knows the master: {error}") from None
    finally:
        await _let_go(sentinels)
    return str(host), int(port)


def _sentinels(parsed: RedisUrl) -> Sentinel:
    how: dict[str, Any] = {
        "username": parsed.username,
        "password": parsed.password,
        "socket_timeout": 0.5,
        "socket_connect_timeout": 0.5,
        "redis_connect_func": _introduce,
    }
    return Sentinel(list(parsed.hosts), sentinel_kwargs=how)  # type: ignore[no-untyped-call]


async def _introduce(sentinel: Connection) -> None:
    """Tell a Sentinel the URL's password. One that has none refuses that, and is asked without."""
    try:
        await sentinel.on_connect()
    except AuthenticationError:  # over which redis-py has hung up
        if sentinel.password is None:
            raise
        sentinel.username = sentinel.password = None
        await sentinel.connect()  # type: ignore[no-untyped-call]


async def _let_go(sentinels: Sentinel) -> None:
    for node in sentinels.sentinels:
        await node.aclose()


class _SentinelPool(SentinelConnectionPool):
    """A pool that also lets go of the Sentinels that it asked, whose connections would stay open otherwise."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:  # else it has just asked them, and heard of another primary
            await _let_go(self.sentinel_manager)


def connection_pool(url: str) -> ConnectionPool:
    """Return a redis-py pool for `url`, for arq: with time-outs, a health check and some retries.

    Through Sentinel where the URL says so; each new connection then asks who the master is. `disconnect` it in the end.
    """
    parsed = parse_url(url)
    if parsed.cluster:
        raise ValueError("the queue cannot live in a Redis Cluster")
    common: dict[str, Any] = {
        "username": parsed.username,
        "password": parsed.password,
        "db": parsed.database,
        "socket_timeout": 5.0,
        "socket_connect_timeout": 2.0,
        "health_check_interval": 10,
        "retry": RETRY,
    }
    if parsed.path is not None:
        return ConnectionPool(connection_class=UnixDomainSocketConnection, path=parsed.path, **common)
    if parsed.service is not None:
        return _SentinelPool(parsed.service, _sentinels(parsed), **common)  # type: ignore[no-untyped-call]
    host, port = parsed.hosts[0]
    kind = SSLConnection if parsed.tls else Connection
    # redis-py is content with anybody's certificate unless it is told otherwise.
    told: dict[str, Any] = {}
    if parsed.tls:
        certificate, key = parsed.tls.certificate or None, parsed.tls.key or parsed.tls.certificate or None
        told = {"ssl_ca_certs": parsed.tls.ca or None, "ssl_certfile": certificate, "ssl_keyfile": key}
        told["ssl_check_hostname"] = True
    return ConnectionPool(connection_class=kind, host=host, port=port, socket_keepalive=True, **common, **told)


async def check_redis(link: Commands) -> None:
    """Raise `UnsafeRedis` if a server is too old or may evict keys: a live log must never vanish silently.

    Looks at every primary; also refuses a node of a cluster that is not used as one.
    """
    for node, raw in (await link.everywhere("INFO")).items():
        info = _fields(raw)
        _check_server(info, f"Redis at {node}" if node else "Redis")
        if isinstance(link, Link) and _in_cluster_mode(info):
            raise UnsafeRedis("Redis runs in cluster mode; its URL must begin with cluster://, or clusters:// with TLS")


async def check_queue(link: Commands) -> None:
    """Raise `UnsafeRedis` if the queue's server is too old or runs in cluster mode: it would refuse every job.

    One that does not answer, or does not tell us, is not judged. It holds hints alone, and must keep nobody from
    starting.
    """
    try:
        infos = await link.everywhere("INFO")
    except (Unavailable, ReplyError):
        return
    for info in map(_fields, infos.values()):
        _check_version(info, "the queue's Redis")
        if _in_cluster_mode(info):
            raise UnsafeRedis(
                "the queue's Redis runs in cluster mode, which cannot hold the queue: "
                "set TAILRACE_QUEUE_REDIS_URL to a Redis that does not"
            )


def _in_cluster_mode(info: dict[str, str]) -> bool:
    """Whether a script with keys of several slots is refused: a cluster of one node does that, too."""
    return info.get("cluster_enabled") == "1"


def _check_version(info: dict[str, str], name: str) -> None:
    version = tuple(int(part) for part in info.get("redis_version", "0.0").split(".")[:2])
    if version < OLDEST_REDIS:
        raise UnsafeRedis(f"{name} ({info.get('redis_version')}) is too old; Tailrace needs 6.2 or newer")


def _check_server(info: dict[str, str], name: str) -> None:
    _check_version(info, name)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnsafeRedis(f"{name} has maxmemory-policy {policy}, which can drop a live stream; set it to noeviction")


def _fields(raw: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in raw.decode().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}
