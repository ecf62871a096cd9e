"""What the launcher reads from the environment, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.models import load_models


class LaunchError(Exception):
    """The launch cannot go on; the text says what is wrong and what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAI:
    """The model to use in place of the scripted one."""

    base_url: str
    model: str
    api_key_env: str
    """Empty: no key is there to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsFile:
    """A models file of the user's own, and the names in it."""

    path: Path
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """Where to listen, where to keep files, which model answers."""

    port: int
    run_dir: Path
    openai: OpenAI | None
    models_file: ModelsFile | None = None
    """In place of the scripted model, and of `openai`."""
    ready_within_s: float = 60.0
    host: str = "127.0.0.1"

    @property
    def ports(self) -> tuple[int, int]:
        """The ports of the two gateways."""
        return self.port, self.port + 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> LaunchSettings:
        """Read `TAILRACE_PORT`, `TAILRACE_RUN_DIR`, `TAILRACE_UPSTREAMS_FILE` and `OPENAI_*`.

        Raises `LaunchError` naming the variable that is wrong.
        """
        text = environment.get("TAILRACE_PORT") or "8000"
        if not text.isdecimal() or not 1 <= int(text) <= 65534:
            raise LaunchError(f"TAILRACE_PORT={text} is not a port from 1 to 65534; try: make run PORT=8000")
        run_dir = Path(environment.get("TAILRACE_RUN_DIR") or ".run").absolute()
        models_file = _models_file(environment)
        return cls(port=int(text), run_dir=run_dir, openai=_openai(environment), models_file=models_file)


def _openai(environment: Mapping[str, str]) -> OpenAI | None:
    base_url = environment.get("OPENAI_BASE_URL")
    if not (base_url or environment.get("OPENAI_API_KEY")):
        return None
    return OpenAI(
        base_url=base_url or "https://api.openai.com/v1",
        model=environment.get("OPENAI_MODEL") or "gpt-4o-mini",
        api_key_env="OPENAI_API_KEY" if environment.get("OPENAI_API_KEY") else "",
    )


def _models_file(environment: Mapping[str, str]) -> ModelsFile | None:
    text = environment.get("TAILRACE_UPSTREAMS_FILE")
    if not text:
        return None
    try:
        names = load_models(text, environment).names
    except ValueError as error:
        raise LaunchError(f"TAILRACE_UPSTREAMS_FILE: {error}") from None
    return ModelsFile(path=Path(text).absolute(), names=tuple(names))
