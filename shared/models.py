"""Owns the models file: which upstream answers under which name. Names and options only, never a key.

The gateway reads the names (it lists models and knows the default); the worker reads the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from shared.errors import UnknownModel

OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
OPENAI_MODEL = "gpt-4o-mini"
_SOME, _LONGEST = 20, 100
"""How many names an error tells, and how much of each."""

Kind = Literal["chat_completions", "responses", "agent"]
Recovery = Literal["auto", "restart", "fail"]


class ModelSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[models]]` table."""

    name: str
    """What clients ask for."""
    kind: Kind = "chat_completions"
    base_url: str = ""
    """Where the API is, up to and including `/v1`; empty: OpenAI's."""
    api_key_env: str = ""
    """The environment variable that holds the key; empty: `OPENAI_API_KEY` for OpenAI's own URL, no key elsewhere."""
    upstream_model: str = ""
    """The name that the upstream knows; empty: `name`."""
    default: bool = False
    """Answers requests that name no model; without one in the file, the first does."""
    prefill: bool = False
    """Whether the upstream goes on from a trailing assistant message, so that a cut answer can be continued."""
    prefill_params: dict[str, Any] = {}
    """Body parameters of such a continuation (vLLM: `continue_final_message`, `add_generation_prompt`)."""
    prefill_message: dict[str, Any] = {}
    """Fields of its trailing message (Mistral, DeepSeek: `prefix`)."""
    recovery: Recovery = "auto"
    """After a worker died: the best that is possible, always a restart, or never a second call.

    `auto` does not run an agent again that has begun a tool call.
    """
    background: bool = False
    """responses: run in the background upstream, so that another worker can attach to the same answer again."""
    agent: str = ""
    """agent: `package.module:function`."""
    extra_headers: dict[str, str] = {}
    first_token_s: float | None = None
    silence_s: float | None = None
    """Deadlines of this model; without them the worker's settings."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a model needs a name")
        module, colon, function = self.agent.partition(":")
        if self.kind == "agent" and not (module and colon and function):
            raise ValueError(f"model {self.name!r}: agent must be package.module:function")
        if self.base_url and not _is_url(self.base_url):
            raise ValueError(f"model {self.name!r}: base_url must be a URL that begins with http:// or https://")
        if any(limit is not None and not limit > 0 for limit in (self.first_token_s, self.silence_s)):
            raise ValueError(f"model {self.name!r}: first_token_s and silence_s must be above 0")

    @property
    def url(self) -> str:
        """The upstream's base URL."""
        return self.base_url or OPENAI_BASE_URL

    @property
    def key_env(self) -> str:
        """The variable that holds the key; empty if none is sent. A key is never sent to a URL it was not named for."""
        return self.api_key_env or (OPENAI_KEY if self.url == OPENAI_BASE_URL else "")

    @property
    def model(self) -> str:
        """The model's name upstream."""
        return self.upstream_model or self.name


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and not re.search(r"\s", text)
    except ValueError:  # a port that is none
        return False


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


class _File(Struct, forbid_unknown_fields=True):
    models: list[ModelSpec]


class Models:
    """The configured models, by name, in the file's order."""

    def __init__(self, specs: list[ModelSpec]) -> None:
        """Raise `ValueError` for an empty list, a name that comes twice or two defaults."""
        self._specs = {spec.name: spec for spec in specs}
        if not specs:
            raise ValueError("no model is configured")
        if len(self._specs) != len(specs):
            raise ValueError("two models have the same name")
        defaults = [spec.name for spec in specs if spec.default]
        if len(defaults) > 1:
            raise ValueError(f"more than one default model: {', '.join(defaults)}")
        self.default = defaults[0] if defaults else specs[0].name

    @property
    def names(self) -> list[str]:
        """What a client may ask for."""
        return list(self._specs)

    def get(self, name: str) -> ModelSpec | None:
        """Return the model of that name."""
        return self._specs.get(name)

    def choose(self, name: str | None) -> str:
        """Return the name to use for a request that asks for `name`; raise `UnknownModel` if there is none such."""
        if not name:
            return self.default
        if name not in self._specs:
            raise UnknownModel(f'no model "{_cut(name)}" is configured; there are: {self._some()}')
        return name

    def _some(self) -> str:
        more = len(self._specs) - _SOME
        return ", ".join(map(_cut, self.names[:_SOME])) + (f" and {more} more" if more > 0 else "")

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._specs.values())


def load_models(path: str, environment: Mapping[str, str]) -> Models:
    """Read the models file, or without one make the model that `OPENAI_*` name; raise `ValueError` naming the fault."""
    if path:
        try:
            return Models(msgspec.toml.decode(Path(path).read_bytes(), type=_File).models)
        except OSError as error:
            raise ValueError(f"models file {path}: {error.strerror}") from None
        except (msgspec.DecodeError, ValueError) as error:  # a TOML mistake is a ValueError too
            raise ValueError(f"models file {path}: {error}") from None
    base_url = environment.get("OPENAI_BASE_URL") or OPENAI_BASE_URL
    name = environment.get("OPENAI_MODEL") or OPENAI_MODEL
    # Whoever sets both variables wants the key sent to that URL; whoever sets the URL alone has a server without keys.
    key_env = OPENAI_KEY if environment.get(OPENAI_KEY) else ""
    return Models([ModelSpec(name=name, base_url=base_url, api_key_env=key_env, default=True)])
