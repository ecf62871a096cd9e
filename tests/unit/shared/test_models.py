"""The models file: what it may say, what is wrong with it, and where a key may go."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import UnknownModel
from shared.models import OPENAI_BASE_URL, Models, ModelSpec, load_models

FILE = """
[[models]]
name = "small"
base_url = "http://model:8000/v1"
api_key_env = "SMALL_KEY"
prefill = true
prefill_params = { continue_final_message = true, add_generation_prompt = false }

[[models]]
name = "agent"
kind = "agent"
agent = "my.agents:answer"
default = true
"""


def write(folder: Path, text: str) -> str:
    path = folder / "models.toml"
    path.write_text(text)
    return str(path)


def test_a_file_gives_names_options_and_a_default(tmp_path: Path) -> None:
    models = load_models(write(tmp_path, FILE), {})
    assert (models.names, models.default) == (["small", "agent"], "agent")
    small = models.get("small")
    assert small is not None
    assert (small.url, small.model, small.key_env) == ("http://model:8000/v1", "small", "SMALL_KEY")
    assert small.prefill_params == {"continue_final_message": True, "add_generation_prompt": False}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "models"),
        ("models = []", "no model"),
        ('[[models]]\nname = "a"\n[[models]]\nname = "a"', "same name"),
        ('[[models]]\nname = "a"\ndefault = true\n[[models]]\nname = "b"\ndefault = true', "more than one default"),
        ('[[models]]\nname = "a"\napi_key = "sk-1"', "api_key"),
        ('[[models]]\nname = "a"\nkind = "telepathy"', "telepathy"),
        ('[[models]]\nname = "a"\nkind = "agent"\nagent = "nocolon"', "module:function"),
        ('[[models]]\nname = ""', "name"),
        ('[[models]]\nname = "a"\nbase_url = "localhost:8000/v1"', "'a': base_url"),
        ('[[models]]\nname = "a"\nbase_url = "http://host:port/v1"', "'a': base_url"),
        ('[[models]]\nname = "a"\nbase_url = "http://host/v1 "', "'a': base_url"),
        ('[[models]]\nname = "a"\nfirst_token_s = -1', "'a': first_token_s"),
        ('[[models]]\nname = "a"\nsilence_s = 0', "silence_s must be above 0"),
        ("not toml", r"models\.toml"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        load_models(write(tmp_path, text), {})


def test_a_mistake_in_the_environment_is_named() -> None:
    with pytest.raises(ValueError, match="base_url"):
        load_models("", {"OPENAI_BASE_URL": "localhost:11434/v1", "OPENAI_MODEL": "llama"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.toml"):
        load_models(str(tmp_path / "absent.toml"), {})


def test_without_a_file_the_environment_names_one_model() -> None:
    named = {"OPENAI_BASE_URL": "http://x/v1", "OPENAI_MODEL": "llama", "OPENAI_API_KEY": "sk-1"}
    models = load_models("", named)
    spec = models.get("llama")
    assert spec is not None
    assert (spec.url, spec.key_env, models.default) == ("http://x/v1", "OPENAI_API_KEY", "llama")
    usual = load_models("", {}).get("gpt-4o-mini")
    assert usual is not None
    assert usual.key_env == "OPENAI_API_KEY"
    (keyless,) = load_models("", {**named, "OPENAI_API_KEY": ""})
    assert keyless.key_env == ""


def test_the_usual_key_goes_to_its_own_url_alone() -> None:
    assert ModelSpec(name="a").key_env == "OPENAI_API_KEY"
    assert ModelSpec(name="a").url == OPENAI_BASE_URL
    assert ModelSpec(name="a", base_url="https://elsewhere.example/v1").key_env == ""


def test_a_request_may_leave_the_name_out_but_not_invent_one(tmp_path: Path) -> None:
    models = load_models(write(tmp_path, FILE), {})
    assert models.choose(None) == "agent"
    assert models.choose("small") == "small"
    with pytest.raises(UnknownModel, match=r'^no model "large" is configured; there are: small, agent$'):
        models.choose("large")


def test_what_is_said_of_an_invented_name_is_bounded() -> None:
    models = Models([ModelSpec(name=f"{number:02}{'n' * 200}") for number in range(23)])
    with pytest.raises(UnknownModel) as raised:
        models.choose("x" * 100_000)
    asked, _, known = str(raised.value).partition(" is configured; there are: ")
    assert asked == f'no model "{"x" * 99}…"'
    assert known == ", ".join(f"{number:02}{'n' * 97}…" for number in range(20)) + " and 3 more"
