"""Owns loading the Lua scripts: the prelude and one file of `lua/` each, but for those that run all the time."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def script(name: str) -> str:
    """Return the source of the log script `name`, prelude included (APPEND has none)."""
    folder = files("shared.log") / "lua"
    source = (folder / f"{name}.lua").read_text()
    return source if name == "append" else (folder / "prelude.lua").read_text() + source


@cache
def index_script(name: str) -> str:
    """Return the source of a script on the due index, which has keys of its own."""
    return (files("shared.log") / "lua" / f"{name}.lua").read_text()
