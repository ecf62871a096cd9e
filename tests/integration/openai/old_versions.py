"""Older releases of the `openai` package, each installed beside ours into a folder of its own: `make clients-old`.

Not collected with the other tests, since it asks a package index.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.scripted_model.text import full_text
from tests.integration.openai.road import ClientRoad, cut
from tests.integration.openai.test_client_openai_python import say

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
PROGRAM = Path(__file__).resolve().parents[2] / "clients" / "python" / "main_paths.py"
VERSIONS = ("1.109.1", "2.54.0")


def install(version: str, folder: Path) -> None:
    """Install one release and what it needs; nothing of our own environment changes."""
    pip = (sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(folder))
    subprocess.run([*pip, f"openai=={version}"], check=True, timeout=240)


async def run(folder: Path, url: str, prompt: str) -> dict[str, Any]:
    """Run the main paths with that folder's packages; return what the program saw."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), url, prompt,
        env={**os.environ, "PYTHONPATH": str(folder)}, stdout=subprocess.PIPE, cwd=folder,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    seen: dict[str, Any] = json.loads(out)
    return seen


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_main_paths(road: ClientRoad, version: str, tmp_path: Path) -> None:
    await asyncio.to_thread(install, version, tmp_path)
    prompt = f"Locks for {version} [[tokens=60 rate=120]]"
    text = full_text(say(prompt))
    road.proxy.plan(cut(9, match=b'"background":true'), *(cut(4 + n, match=b"starting_after") for n in range(6)))
    seen = await run(tmp_path, road.proxy.url, prompt)
    assert seen["version"] == version
    assert seen["chat"] == {"stream": text, "usage": seen["chat"]["usage"], "helper": text, "whole": text}
    assert seen["chat"]["usage"] > 0
    responses = seen["responses"]
    assert [responses[path] for path in ("whole", "helper", "background", "replayed")] == [text] * 4
    assert responses["numbers"] == list(range(len(responses["numbers"])))
    assert responses["resumes"] == 7
    assert (responses["chained"], responses["cancelled"]) == ("completed", "completed")
    assert seen["error"]["status"] == 404
