"""Owns the artefacts' form: what clients, the nemesis and the fleet write down while a run goes on, one JSON line each.

Times are Unix seconds by this machine's clock, which is also the clock of Redis' epochs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")
Ended = Literal["clean", "broken", "cut", "refused", "timeout"]
Event = tuple[float, str, str]
"""When it came, its id ("" if it has none), its data."""


class Conn(Struct, tag="conn"):
    """One connection of one viewer, from the attempt to its end."""

    viewer: str
    chat: str
    message: str
    wire: str
    opened: float
    asked: str = ""
    gateway: str = ""
    status: int = 0
    head: float = 0.0
    closed: float = 0.0
    ended: Ended = "refused"
    events: list[Event] = []


class Start(Struct, tag="start"):
    """One message that a client wanted, with every try."""

    chat: str
    message: str
    wire: str
    model: str
    prompt: str
    began: float
    accepted: float = 0.0
    statuses: list[tuple[float, int]] = []


class Act(Struct, tag="act"):
    """A stop, a delete, or a start that replaces: `accepted` is when a 2xx came."""

    what: Literal["stop", "delete", "replace"]
    chat: str
    message: str
    began: float
    accepted: float = 0.0
    statuses: list[tuple[float, int]] = []
    state: str = ""


class Probe(Struct, tag="probe"):
    """A request for somebody else's message, or without a credential."""

    what: str
    at: float
    status: int


class Fault(Struct, tag="fault"):
    """What the nemesis did to `target` between `began` and `healed`."""

    window: int
    kind: str
    target: str
    began: float
    healed: float


class Loss(Struct, tag="loss"):
    """What Redis acknowledged in this time may be lost, unless its writer is still there when Redis is `back`."""

    began: float
    ended: float
    what: Literal["tail", "everything"] = "tail"
    back: float = 0.0


class Setup(Struct, tag="setup"):
    """What of the fleet's settings the checker must know."""

    lease_ms: int


class Life(Struct, tag="life"):
    """One process, from its start to its end. `how`: exit, killed (by us), grace (killed because it did not end)."""

    name: str
    life: int
    pid: int
    began: float
    asked: float = 0.0
    ended: float = 0.0
    how: Literal["killed", "exit", "grace", "running"] = "running"
    code: int = 0


class Sample(Struct, tag="sample"):
    """The counters of one life, as last seen."""

    name: str
    life: int
    at: float
    values: dict[str, float]


Record = Setup | Conn | Start | Act | Probe | Fault | Loss | Life | Sample


class Ack(Struct):
    """One line of a worker's acknowledgements (see `worker.acks`)."""

    op: str
    message: str
    epoch: int
    token: str
    sent: float
    replied: float
    status: str
    first: int = 0
    sums: list[int] = []
    worker: str = ""


class FinalLog(Struct):
    """What Redis holds of one message at the end."""

    scope: str
    chat: str
    message: str
    entries: list[tuple[str, str]]
    meta: dict[str, str]


class Rest(Struct):
    """How the fleet stood at rest."""

    active: list[str] = []
    due: list[str] = []
    queued: int = 0
    processes: dict[str, dict[str, float]] = {}
    baseline: dict[str, dict[str, float]] = {}


class Recorder:
    """Appends records to a file."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("ab")
        self._encode = msgspec.json.Encoder().encode

    def put(self, record: Record) -> None:
        """Write one."""
        self._file.write(self._encode(record) + b"\n")

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


def read_records(path: Path) -> Iterator[Record]:
    """Yield what a recorder wrote."""
    decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
    with path.open("rb") as file:
        for line in file:
            yield decoder.decode(line)


def read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield a file's lines as `kind`; a last line that is cut short, as by SIGKILL, is left out."""
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield decoder.decode(line)
