"""Settings of one scripted model process and the bounds it works within."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.scripted_model.text import DEFAULT_TOKENS
from deploy.scripted_model.tokens import MAX_TOKENS

MODELS = ("scripted", "scripted-responses")

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_LIVE_STREAMS = 5_000
MAX_JOURNAL_ENTRIES = 20_000
MAX_KEYS = 20_000
MAX_RESPONSES = 500
MAX_RECORD_BYTES = 32 * 1024 * 1024
MAX_HANG_S = 3_600.0  # even silence ends some day


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line decides; directives overrule pace and length call by call."""

    host: str = "127.0.0.1"
    port: int = 9000
    rate: float = 40.0
    tokens: int = DEFAULT_TOKENS
    first_token_ms: float = 0.0
    log_file: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"--port {self.port} is not a port number")
        if not 0 <= self.tokens <= MAX_TOKENS:
            raise ValueError(f"--tokens {self.tokens} must lie between 0 and {MAX_TOKENS}")
        if self.rate < 0 or self.first_token_ms < 0:
            raise ValueError("--rate and --first-token-ms must not be negative")
