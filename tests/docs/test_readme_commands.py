"""The README's promises about commands, settings and codes: checked against what is there."""

from __future__ import annotations

import re

import msgspec

from deploy.docs import with_settings
from shared.errors import GENERATION_CODES
from shared.models import ModelSpec
from tests.docs.readme import README, ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_make_command_is_a_target() -> None:
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"run", "test"} <= named
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert named <= targets


def test_the_settings_tables_are_those_of_the_settings() -> None:
    assert with_settings(README) == README, "run `python -m deploy.docs`"


def test_every_file_that_is_linked_exists() -> None:
    links = {link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link}
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_variable_that_is_named_is_a_setting() -> None:
    for name in ("README.md", "deploy/README.md"):
        text = (ROOT / name).read_text()
        tables = set(re.findall(r"^\| `(TAILRACE_[A-Z_]+)`", README, re.MULTILINE))
        assert set(re.findall(r"\bTAILRACE_[A-Z_]+\b", text)) <= tables, name


def test_every_failure_code_is_in_the_protocol() -> None:
    protocol = (ROOT / "shared" / "PROTOCOL.md").read_text()
    assert [code for code in GENERATION_CODES if f"`{code}`" not in protocol] == []


def test_the_models_table_names_every_key_and_no_other() -> None:
    [table] = re.findall(r"^## Models\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(ModelSpec.__struct_fields__)


def test_the_example_of_a_continuation_is_a_models_file() -> None:
    [lines] = re.findall(r"^```toml\n(prefill = .*?)```", README, re.MULTILINE | re.DOTALL)
    spec = msgspec.toml.decode(f'name = "m"\n{lines}', type=ModelSpec)
    assert spec.prefill
    assert set(spec.prefill_params) == {"continue_final_message", "add_generation_prompt"}
    assert spec.prefill_message == {"prefix": True}
