"""Owns loading the Lua scripts: each is the prelude and one file of `lua/`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def script(name: str) -> str:
    """Return the source of the log script `name`, prelude included."""
    folder = files("shared.log") / "lua"
    return (folder / "prelude.lua").read_text() + (folder / f"{name}.lua").read_text()


@cache
def index_script(name: str) -> str:
    """Return the source of a script on the due index, which has keys of its own."""
    return (files("shared.log") / "lua" / f"{name}.lua").read_text()
