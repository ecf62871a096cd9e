"""Owns the gateway's settings: read once from the environment, checked at boot, frozen.

A setting that cannot be right stops the start with a sentence that names the variable.
"""

from __future__ import annotations

import os
from ipaddress import ip_address

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.log.types import Policy
from shared.models import Models, load_models
from shared.settings import SharedSettings

SHORTEST_SECRET = 32
"""Bytes. A shorter HMAC key can be found by trying, from a single token."""


class GatewaySettings(SharedSettings):
    """What one gateway process is told."""

    host: str = Field("127.0.0.1", description="Address to listen on; without authentication only loopback is allowed.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    reuse_port: bool = Field(
        False,
        description="Let several gateways of one machine share the port (SO_REUSEPORT); the system spreads clients.",
    )
    local: bool = Field(False, description="A run on one machine to try things out: the demo page may break things.")
    local_pidfile: str = Field("", description="Where the local launcher keeps the process ids of what it runs.")
    local_peers: str = Field("", description="Origins of the gateways of a local run, comma-separated.")

    api_keys: SecretStr = Field(
        SecretStr(""), description="Static keys, `key=tenant/user,key2=...`, or the path of a file with one a line."
    )
    jwt_secret: SecretStr = Field(SecretStr(""), description="Shared secret of HS256 tokens, 32 bytes or more.")
    jwks_url: str = Field("", description="Where the public keys of RS256 and ES256 tokens are published.")
    jwt_issuer: str = Field("", description="`iss` that a token must carry; empty: any.")
    jwt_audience: str = Field("", description="`aud` that a token must carry; empty: tokens with an `aud` are refused.")
    jwt_tenant_claim: str = Field("tenant", min_length=1, description="Claim that names the tenant.")
    jwt_user_claim: str = Field("sub", min_length=1, description="Claim that names the user.")
    jwt_default_tenant: str = Field("default", description="Tenant of a token without that claim; empty: refuse it.")
    trusted_hosts: str = Field(
        "",
        description="`Host` names to accept, comma-separated; empty: any, but loopback only without authentication. "
        "Probes come under any, and so do metrics that ask for a credential.",
    )
    cors_origins: str = Field("", description="Browser origins that may call, comma-separated; `*`: all.")
    ticket_secret: SecretStr = Field(
        SecretStr(""), description="What tickets are signed with, 32 bytes or more; empty: gateways share one in Redis."
    )
    ticket_s: int = Field(900, ge=1, description="How long a ticket may be used to open what it is for.")
    metrics_token: SecretStr = Field(
        SecretStr(""), description="Bearer token that alone may read `/metrics`; empty: any authenticated caller."
    )

    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="Largest request body.")
    body_deadline_s: float = Field(30.0, gt=0, description="How long a request body may take to arrive.")

    busy_policy: Policy = Field(
        "single", description="What a start does while the chat has a message in flight, unless the request says."
    )
    allow_replace: bool = Field(True, description="Whether a request may ask to stop what is in flight and start anew.")
    allow_parallel: bool = Field(True, description="Whether a request may ask for one more message beside it.")
    max_parallel: int = Field(8, ge=1, description="Messages in flight in one chat under `parallel`.")
    max_queue: int = Field(10_000, ge=0, description="Waiting messages beyond which starts are refused; 0: no bound.")
    max_running_per_user: int = Field(1000, ge=0, description="Messages in flight of one user; 0: no bound.")

    heartbeat_s: float = Field(10.0, gt=0, description="A stream that is silent for this long gets a comment line.")
    send_timeout_s: float = Field(30.0, gt=0, description="A viewer that takes nothing for this long is cut off.")
    viewer_buffer_bytes: int = Field(
        256 * 1024, ge=4096, description="What may wait for one slow viewer, in our memory and in the system's."
    )
    direct_writes: bool = Field(True, description="Write live events past ASGI where the server allows it; faster.")
    max_viewers: int = Field(20_000, ge=1, description="Streams that one gateway serves at a time.")
    retry_ms: int = Field(500, ge=1, description="Base of the delay that viewers are told before a reconnect.")

    end_grace_s: float = Field(
        30.0, ge=0, description="How long an end that was delivered is still given to AI SDK clients without a cursor."
    )
    rotate_s: float = Field(
        600.0, gt=0, description="After so long, jittered, a native, feed or WebSocket stream is asked to reconnect."
    )
    drain_delay_s: float = Field(
        0.0, ge=0, description="On SIGTERM, how long to serve on, unready, before the first stream is asked to leave."
    )
    drain_s: float = Field(20.0, ge=0, description="On SIGTERM, the time over which streams are asked to reconnect.")
    ready_grace_s: float = Field(15.0, gt=0, description="How long Redis may be away before `/readyz` says so.")

    @field_validator("metrics_token")
    @classmethod
    def _as_a_header_holds_it(cls, token: SecretStr) -> SecretStr:
        return SecretStr(token.get_secret_value().strip())

    @model_validator(mode="after")
    def _safe(self) -> GatewaySettings:
        secret = self.jwt_secret.get_secret_value()
        if secret and len(secret.encode()) < SHORTEST_SECRET:
            raise ValueError(f"TAILRACE_JWT_SECRET must have at least {SHORTEST_SECRET} bytes")
        ticket_secret = self.ticket_secret.get_secret_value()
        if ticket_secret and len(ticket_secret.encode()) < SHORTEST_SECRET:
            raise ValueError(f"TAILRACE_TICKET_SECRET must have at least {SHORTEST_SECRET} bytes")
        if self.jwks_url and not self.jwks_url.startswith(("https://", "http://")):
            raise ValueError("TAILRACE_JWKS_URL must be an http(s) URL")
        if self.open and not is_loopback(self.host):
            raise ValueError(
                f"TAILRACE_HOST={self.host} can be reached from other machines and no authentication is configured: "
                "set TAILRACE_API_KEYS, TAILRACE_JWT_SECRET or TAILRACE_JWKS_URL, or listen on 127.0.0.1"
            )
        return self

    @property
    def open(self) -> bool:
        """Whether nobody is asked who they are: one user, on loopback only."""
        return not (self.api_keys.get_secret_value() or self.jwt_secret.get_secret_value() or self.jwks_url)

    def models(self) -> Models:
        """Read the models file; raise `ValueError` naming what is wrong with it."""
        return load_models(self.upstreams_file, os.environ)

    @property
    def hosts(self) -> frozenset[str]:
        """`trusted_hosts`, lower case."""
        return frozenset(_items(self.trusted_hosts.lower()))

    @property
    def origins(self) -> tuple[str, ...]:
        """`cors_origins`, one by one."""
        return _items(self.cors_origins)

    @property
    def peers(self) -> tuple[str, ...]:
        """`local_peers`, one by one."""
        return _items(self.local_peers)


def _items(text: str) -> tuple[str, ...]:
    return tuple(item for part in text.split(",") if (item := part.strip()))


def is_loopback(host: str) -> bool:
    """Whether `host` can only mean this machine. Other names could resolve to anything, so they do not count."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
