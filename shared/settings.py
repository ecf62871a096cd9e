"""Owns the settings both services share: read once from the environment, validated at boot, frozen.

Every variable begins with `TAILRACE_`. `gateway.settings` and `worker.settings` add their own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.log.types import Retention
from shared.redis import check_url, is_cluster

PREFIX = "TAILRACE_"
REAPED_WITHIN_S = 60
"""How late a reaper may be with a message that waits for its first worker."""


class SharedSettings(BaseSettings):
    """What gateway and worker must agree on."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis of the log: `redis://`, `rediss://`, `unix://`, `sentinel://host:port,host:port/service`, "
        "or `cluster://host:port,host:port` (`clusters://`: with TLS). With TLS, `?ssl_ca_certs=FILE` and "
        "`&ssl_certfile=FILE&ssl_keyfile=FILE` name a private authority and our own certificate.",
    )
    queue_redis_url: str = Field(
        "", description="Redis of the queue, never a cluster; empty: the log's own, unless that is a cluster."
    )
    redis_deadline_s: float = Field(5.0, gt=0, description="How long one Redis operation may take, retries included.")
    wait_replicas: int = Field(
        0,
        ge=0,
        description="Replicas that a start, a claim, an outcome and a deletion wait for: up to 0.2 s, and not at all "
        "in the second after a wait in vain. 0: none.",
    )
    lease_ms: int = Field(8000, ge=2000, description="A worker silent for this long loses its message to another.")
    live_ttl_s: int = Field(3600, ge=60, description="Redis forgets a running message so long after its last renewal.")
    replay_s: int = Field(3600, ge=1, description="How long after the end the stream can still be replayed.")
    retain_s: int = Field(86_400, ge=1, description="How long after the end the final message can be read.")
    tombstone_s: int = Field(
        7 * 86_400, ge=1, description="How long after the end a read answers 410 (gone) rather than 404."
    )
    max_attempts: int = Field(
        3,
        ge=1,
        description="How often a message may be attempted. Hand-overs on SIGTERM do not count, the first eight times.",
    )
    message_deadline_s: int = Field(3600, ge=1, description="Total time of a message, queue and all attempts included.")
    queue_timeout_s: int = Field(300, ge=1, description="How long a message may wait for its first worker.")
    upstreams_file: str = Field("", description="TOML file of the models; empty: one model from `OPENAI_*`.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL", "FATAL"] = Field(
        "INFO", description="Level of the services' logs (JSON lines on stderr), `DEBUG` to `CRITICAL`, in any case."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_any_case(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level

    @field_validator("redis_url", "queue_redis_url")
    @classmethod
    def _is_a_redis_url(cls, url: str, told: ValidationInfo) -> str:
        if url or told.field_name == "redis_url":
            check_url(url)
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> SharedSettings:
        if self.retain_s < self.replay_s:
            raise ValueError(f"TAILRACE_RETAIN_S={self.retain_s} must not be below TAILRACE_REPLAY_S={self.replay_s}")
        if self.tombstone_s < self.retain_s:
            raise ValueError(
                f"TAILRACE_TOMBSTONE_S={self.tombstone_s} must not be below TAILRACE_RETAIN_S={self.retain_s}: "
                "a message would be forgotten while it can still be read"
            )
        if self.live_ttl_s < self.queue_timeout_s + REAPED_WITHIN_S:
            raise ValueError(
                f"TAILRACE_LIVE_TTL_S={self.live_ttl_s} must be above TAILRACE_QUEUE_TIMEOUT_S={self.queue_timeout_s} "
                f"by {REAPED_WITHIN_S} or more: a waiting message would be forgotten before it could be ended"
            )
        if is_cluster(self.redis_url) and not self.queue_redis_url:
            raise ValueError(
                "TAILRACE_REDIS_URL is a Redis Cluster, which cannot hold the queue: "
                "set TAILRACE_QUEUE_REDIS_URL to a Redis with one primary"
            )
        if is_cluster(self.queue_redis_url):
            raise ValueError("TAILRACE_QUEUE_REDIS_URL must not be a Redis Cluster: the queue needs one primary")
        return self

    @property
    def heartbeat_ms(self) -> int:
        """How often an owner with nothing to write says that it is alive."""
        return self.lease_ms // 4

    @property
    def retention(self) -> Retention:
        """The periods in the log's unit."""
        return Retention(self.live_ttl_s * 1000, self.replay_s * 1000, self.retain_s * 1000, self.tombstone_s * 1000)

    @property
    def queue_url(self) -> str:
        """The queue's Redis."""
        return self.queue_redis_url or self.redis_url


def faults(error: ValidationError) -> list[str]:
    """Return what is wrong with settings: a sentence each, which names the variable.

    Without the inputs: they may be secrets.
    """
    return [
        "".join(f"{PREFIX}{str(part).upper()}: " for part in fault["loc"]) + fault["msg"].removeprefix("Value error, ")
        for fault in error.errors(include_input=False, include_url=False)
    ]
