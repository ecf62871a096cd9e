"""The browser's side, run by Node: its reducer keeps the server's law, its Markdown lets nothing but text through."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.node import FOLDER, node_binary

STATIC = Path(__file__).resolve().parents[3] / "gateway" / "static"


@pytest.mark.parametrize("script", ["fold.mjs", "markdown.mjs", "headers.mjs", "coming_back.mjs"])
def test_a_script_of_checks_holds(script: str) -> None:
    done = subprocess.run(
        [node_binary(), script], cwd=FOLDER, capture_output=True, text=True, timeout=50, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_client_is_one_small_module_that_needs_nothing() -> None:
    source = (STATIC / "tailrace.js").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 300
    assert "import " not in source


def test_the_page_never_makes_html_of_text() -> None:
    for file in STATIC.glob("*.js"):
        source = file.read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert word not in source, f"{file.name}: {word}"


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert "//" not in page.replace("<!doctype", "")
    assert "http" not in (STATIC / "style.css").read_text(encoding="utf-8")
