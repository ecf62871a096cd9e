"""Owns the worker's settings, on top of the shared ones: `TAILRACE_` plus the name in capitals."""

from __future__ import annotations

from pydantic import Field, model_validator

from shared.settings import SharedSettings


class WorkerSettings(SharedSettings):
    """What one worker process needs to know. Deadlines of a model's own (models file) win over those here."""

    worker_slots: int = Field(400, ge=1, description="Generations that one worker runs at a time.")
    worker_id: str = Field("", description="Name of this worker in its logs and on its channel; empty: a random one.")
    worker_health_host: str = Field("127.0.0.1", description="Address on which the worker's health port listens.")
    worker_health_port: int = Field(
        0, ge=0, le=65535, description="Port of `/healthz`, `/readyz` and `/metrics`; 0: none."
    )
    worker_drain_s: float = Field(
        60.0, ge=0, description="After SIGTERM, how long running answers may go on before they are handed over."
    )
    flush_bytes: int = Field(262_144, ge=1024, description="Most bytes that one append carries.")
    flush_delay_ms: int = Field(
        0, ge=0, le=1000, description="How long an append after the first waits for more tokens to join it."
    )
    gather_ms: int = Field(
        2,
        ge=0,
        le=100,
        description="Tokens of all messages are written together, once in so long; one that comes alone does not wait.",
    )
    direct_reads: bool = Field(
        True, description="Take a model's tokens where their bytes arrive, not by waking a task for each; faster."
    )
    direct_appends: bool = Field(
        True,
        description="Append tokens by plain commands, not by a script: half of the work for Redis. "
        "Off while services from before it run beside.",
    )
    max_entry_bytes: int = Field(
        65_536,
        ge=1024,
        description="Longer deltas are split into entries of at most this size. Other events are one entry each.",
    )
    max_unsent_bytes: int = Field(
        262_144, ge=1024, description="Unsent bytes of one message at which its upstream is read no further."
    )
    max_message_bytes: int = Field(
        4_194_304, ge=1024, description="Bytes at which a message ends with `output_limit`, its text so far kept."
    )
    max_message_entries: int = Field(100_000, ge=16, description="Log entries at which it does so too.")
    first_token_s: float = Field(
        60.0, gt=0, description="How long a model may take to its first token, retries included."
    )
    silence_s: float = Field(120.0, gt=0, description="How long a model may stay silent between two tokens.")
    retry_s: float = Field(
        30.0, ge=0, description="How long a call that fails before its first token is tried again (429, 5xx, reset)."
    )
    retry_times: int = Field(8, ge=0, description="How often at most.")
    connect_s: float = Field(5.0, gt=0, description="How long connecting to a model may take.")
    reap_s: float = Field(0.5, gt=0, description="How often a worker looks for messages whose worker died.")
    sweep_s: float = Field(
        60.0, gt=0, description="How often one worker looks through all messages for forgotten ones."
    )
    poll_s: float = Field(0.5, gt=0, description="How often an idle worker looks into the queue without being woken.")
    outage_s: float = Field(
        60.0, gt=0, description="How long unwritten entries of an interrupted answer are kept while Redis is away."
    )
    acks_file: str = Field(
        "", description="File for a line on each write that Redis acknowledged; for chaos tests. Empty: none."
    )

    @model_validator(mode="after")
    def _limits_fit(self) -> WorkerSettings:
        if self.max_message_bytes < self.max_entry_bytes:
            raise ValueError(
                f"TAILRACE_MAX_MESSAGE_BYTES={self.max_message_bytes} must not be below "
                f"TAILRACE_MAX_ENTRY_BYTES={self.max_entry_bytes}"
            )
        return self
