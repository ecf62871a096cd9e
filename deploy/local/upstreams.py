"""The models file that the worker and the gateways are given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from deploy.local.settings import OpenAI


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One `[[models]]` table."""

    name: str
    kind: str
    base_url: str
    upstream_model: str
    api_key_env: str = ""
    prefill: bool = False
    default: bool = False

    def toml(self) -> str:
        """Return the table as TOML; a JSON string or boolean is a valid TOML one."""
        keys = ("name", "kind", "base_url", "upstream_model", "api_key_env", "prefill", "default")
        return "[[models]]\n" + "".join(f"{key} = {json.dumps(getattr(self, key))}\n" for key in keys)


def scripted(port: int) -> list[Model]:
    """Return the scripted model under its two APIs; it accepts any key, so none is needed."""
    base_url = f"http://127.0.0.1:{port}/v1"
    chat = Model(
        name="scripted",
        kind="chat_completions",
        base_url=base_url,
        upstream_model="scripted",
        prefill=True,
        default=True,
    )
    responses = Model(name="scripted-responses", kind="responses", base_url=base_url, upstream_model="scripted")
    return [chat, responses]


def openai(settings: OpenAI) -> list[Model]:
    """Return the one model that the `OPENAI_*` variables name."""
    return [
        Model(
            name=settings.model,
            kind="chat_completions",
            base_url=settings.base_url,
            upstream_model=settings.model,
            api_key_env=settings.api_key_env,
            default=True,
        ),
    ]


def write(path: Path, models: list[Model]) -> None:
    """Write `models` to `path`."""
    path.write_text("\n".join(model.toml() for model in models), encoding="utf-8")
