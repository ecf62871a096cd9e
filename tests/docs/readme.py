"""Owns reading the README: its examples by name, with the addresses of a test's own gateways put in."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def example(name: str) -> dict[str, str]:
    """Return the code blocks of `<!-- example: name -->`, joined per language."""
    found = re.search(rf"<!-- example: {name} -->\n(.*?)<!-- end example -->", README, re.DOTALL)
    assert found is not None, f"the README has no example {name!r}"
    blocks: dict[str, str] = {}
    for language, code in re.findall(r"```(\w+)\n(.*?)```", found[1], re.DOTALL):
        blocks[language] = blocks.get(language, "") + code
    return blocks


def at(code: str, first: str, second: str) -> str:
    """Return `code` with the README's gateways replaced by these URLs; everything else stays as people read it."""
    moved = code.replace("http://127.0.0.1:8000", first).replace("http://127.0.0.1:8001", second)
    return moved.replace("ws://127.0.0.1:8000", first.replace("http", "ws"))
