"""Tokens: how text is cut into them, and how exactly as many as asked for are poured, ending in a whole sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from deploy.scripted_model.dice import Dice
from deploy.scripted_model.vocabulary import CLOSERS

MAX_TOKENS = 1_000_000

_TOKEN = re.compile(r"\n+| ?\w+| ?[^\w\s]+|[^\S\n]+")
_LONGEST_CLOSER = max(CLOSERS)
_TRIES = 5  # sentences drawn before a closer stands in
_SHORTEST_TAIL = 3  # a paragraph break and the shortest closer


def tokenise(text: str) -> list[str]:
    """Cut `text` into tokens; their concatenation is `text` again."""
    return _TOKEN.findall(text)


def pour(blocks: Iterator[str], sentence: Callable[[], str], dice: Dice, budget: int) -> Iterator[str]:
    """Yield exactly `budget` tokens: whole blocks as long as they fit, then sentences up to the last token."""
    left = min(budget, MAX_TOKENS)
    started = False
    for block in blocks:
        tokens = tokenise(f"\n\n{block}" if started else block)
        if len(tokens) > left - _SHORTEST_TAIL:
            break
        yield from tokens
        left -= len(tokens)
        started = True
    if started:
        yield "\n\n"
        left -= 1
    yield from _tail(sentence, dice, left)


def _tail(sentence: Callable[[], str], dice: Dice, left: int) -> Iterator[str]:
    at_start = True
    while left > 0:
        tokens = _last_words(dice, left) if left <= _LONGEST_CLOSER else _fitting(sentence, dice, left)
        left -= len(tokens)
        if at_start:
            tokens[0] = tokens[0].lstrip(" ")
            at_start = False
        yield from tokens


def _fitting(sentence: Callable[[], str], dice: Dice, left: int) -> list[str]:
    for _ in range(_TRIES):
        tokens = tokenise(" " + sentence())
        # A sentence must not overshoot, nor leave a single token, which no sentence can fill.
        if len(tokens) <= left and len(tokens) != left - 1:
            return tokens
    return tokenise(dice.pick(CLOSERS[_LONGEST_CLOSER - (left == _LONGEST_CLOSER + 1)]))


def _last_words(dice: Dice, left: int) -> list[str]:
    return ["Yes"] if left == 1 else tokenise(dice.pick(CLOSERS[left]))
