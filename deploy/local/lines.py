"""Log lines of the children: which deserve the terminal, and how they read there."""

from __future__ import annotations

import json
import re

_ALARMING = re.compile(rb'\b(WARNING|ERROR|CRITICAL)\b|"level": ?"(warning|error|critical)"')
_ROUTINE = ("time", "service", "logger", "level", "event")
_LONGEST = 300


def alarming(line: bytes) -> bool:
    """Whether a person should see this line."""
    return _ALARMING.search(line) is not None


def readable(line: bytes) -> str:
    """Return a JSON line as `level: event (field=value, ...)`, any other as it is; both cut to a sensible length."""
    text = line.decode(errors="replace").strip()
    try:
        fields = json.loads(text)
    except ValueError:
        return text[:_LONGEST]
    if not isinstance(fields, dict) or "event" not in fields:
        return text[:_LONGEST]
    rest = ", ".join(f"{key}={value}" for key, value in fields.items() if key not in _ROUTINE)
    return f"{fields.get('level', 'warning')}: {fields['event']}{f' ({rest})' if rest else ''}"[:_LONGEST]
