"""The faults a call can suffer, by name, and the switch that throws them over all new calls."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

# Faults that end or stop a stream once N tokens were sent (`name@N`, N = 0 when left out).
CUTS = frozenset({"reset", "eof", "error", "string_error", "malformed", "hang"})
# Faults that only change the form of what is sent.
FORMS = frozenset(
    {
        "role_repeat",
        "no_role",
        "no_done",
        "no_finish",
        "empty_choices",
        "usage_on_final",
        "tool_repeat",
        "pings",
        "one_byte",
        "crlf",
    }
)
HUGE = "huge"  # huge@N: a first delta of N bytes
MAX_HUGE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `at` counts tokens for cuts and bytes for huge."""

    name: str
    at: int = 0

    def __str__(self) -> str:
        return f"{self.name}@{self.at}" if self.name in CUTS or self.name == HUGE else self.name


@dataclass(frozen=True, slots=True)
class Faults:
    """All faults of one call."""

    items: tuple[Fault, ...] = ()

    def has(self, name: str) -> bool:
        """Tell whether the form fault `name` was asked for."""
        return any(fault.name == name for fault in self.items)

    @property
    def cut(self) -> Fault | None:
        """The fault that ends this call early, the earliest one if there are several."""
        return min((fault for fault in self.items if fault.name in CUTS), key=lambda fault: fault.at, default=None)

    @property
    def huge_bytes(self) -> int:
        """The size of the oversized first delta, 0 for none."""
        return max((fault.at for fault in self.items if fault.name == HUGE), default=0)


NO_FAULTS = Faults()


def parse_faults(text: str) -> Faults:
    """Read `reset@20` or `crlf,one_byte,eof@5`; raises `ValueError` with a sentence for the caller."""
    return Faults(tuple(_parse_fault(word) for word in text.split(",") if word))


def _parse_fault(word: str) -> Fault:
    name, _, position = word.partition("@")
    if name not in CUTS and name not in FORMS and name != HUGE:
        raise ValueError(f"unknown fault {name!r}")
    if position and not (position.isascii() and position.isdigit()):
        raise ValueError(f"fault {name!r} needs a whole number after @, not {position!r}")
    at = int(position or 0)
    if name == HUGE and at > MAX_HUGE_BYTES:
        raise ValueError(f"huge is limited to {MAX_HUGE_BYTES} bytes")
    return Fault(name, at)


class SwitchMode(StrEnum):
    """What the switch does to the calls it strikes."""

    NONE = "none"
    RATE_LIMITED = "429"
    SERVER_ERROR = "500"
    RESET = "reset"
    MALFORMED = "malformed"
    HANG = "hang"
    SLOW = "slow"


SLOW_FACTOR = 20.0


@dataclass(frozen=True, slots=True)
class Strike:
    """What the switch decided for one call."""

    status: int | None = None
    cut: Fault | None = None
    slow: bool = False


MISS = Strike()


class FaultSwitch:
    """Strikes each new call with a probability; the same seed and order of calls give the same strikes."""

    def __init__(self, mode: SwitchMode = SwitchMode.NONE, probability: float = 1.0, seed: int = 0) -> None:
        self.mode = mode
        self.probability = probability
        self.seed = seed
        self._random = random.Random(seed)

    def strike(self) -> Strike:
        """Decide for the next call."""
        if self.mode is SwitchMode.NONE or self._random.random() >= self.probability:
            return MISS
        match self.mode:
            case SwitchMode.RATE_LIMITED | SwitchMode.SERVER_ERROR:
                return Strike(status=int(self.mode.value))
            case SwitchMode.SLOW:
                return Strike(slow=True)
            case _:
                return Strike(cut=Fault(self.mode.value, self._random.randrange(0, 100)))
