"""Owns how a log of `logs/` is read and rendered on a wire. As a program, renders everything once, from cold.

A log is a JSON list of entries, `{"id": "<epoch>-<seq>", "event": {...}}`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from gateway.protocols import WIRES
from gateway.protocols.base import Breaking, LastBlock, Wire
from shared.cursor import Cursor
from shared.events import encode_json
from shared.log.types import Entry

FOLDER = Path(__file__).parent
LOGS = sorted(path.stem for path in (FOLDER / "logs").glob("*.json"))


def read_log(name: str) -> list[Entry]:
    """Return a log's entries."""
    rows: list[dict[str, Any]] = msgspec.json.decode((FOLDER / "logs" / f"{name}.json").read_bytes())
    return [Entry(Cursor.parse(row["id"]), encode_json(row["event"])) for row in rows]


def render(wire: Wire, entries: list[Entry]) -> list[bytes]:
    """Return the events that a new encoder makes."""
    encoder = wire.make()
    return [block for entry in entries for block in encoder.encode(entry)]


def transcript(blocks: list[bytes]) -> bytes:
    """Return events as a golden file shows them: where a viewer's stream is over before the log is, a line says so."""
    out = []
    for block in blocks:
        if isinstance(block, Breaking):
            out.append(b"!! the connection breaks here\n")
        out.append(block)
        if isinstance(block, LastBlock):
            out.append(b"!! the stream ends here\n")
    return b"".join(out)


def main() -> None:
    """Print the transcript of every log on every wire, as one JSON object."""
    made = {f"{wire}/{name}": transcript(render(WIRES[wire], read_log(name))) for wire in WIRES for name in LOGS}
    sys.stdout.buffer.write(msgspec.json.encode({key: value.decode() for key, value in made.items()}))


if __name__ == "__main__":
    main()
