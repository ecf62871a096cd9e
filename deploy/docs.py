"""Writes the README's table of settings from the settings themselves: `python -m deploy.docs` (a test compares)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from gateway.settings import GatewaySettings
from shared.settings import SharedSettings
from worker.settings import WorkerSettings

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN = "<!-- settings: written by `python -m deploy.docs` -->"
END = "<!-- end of settings -->"


def settings_tables() -> str:
    """Return the tables of all settings, Markdown."""
    shared = SharedSettings.model_fields
    parts = [
        ("Both services", shared),
        ("Gateway", _own(GatewaySettings, shared)),
        ("Worker", _own(WorkerSettings, shared)),
    ]
    return "\n".join(f"{title}:\n\n{_table(fields)}" for title, fields in parts)


def _own(settings: type[BaseSettings], shared: dict[str, FieldInfo]) -> dict[str, FieldInfo]:
    return {name: field for name, field in settings.model_fields.items() if name not in shared}


def _table(fields: dict[str, FieldInfo]) -> str:
    rows = ["| variable | default | what it does |", "| --- | --- | --- |"]
    rows += [
        f"| `TAILRACE_{name.upper()}` | {_value(field.default)} | {_cell(field.description or '')} |"
        for name, field in fields.items()
    ]
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _value(default: Any) -> str:
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default == "":
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def with_settings(readme: str) -> str:
    """Return the README's text with its settings section as it should be."""
    head, _, rest = readme.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise ValueError(f"README.md has no section between {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{settings_tables()}\n{END}{tail}"


def main() -> None:
    """Rewrite the README's section."""
    README.write_text(with_settings(README.read_text()))
    sys.stdout.write("README.md: settings written\n")


if __name__ == "__main__":
    main()
