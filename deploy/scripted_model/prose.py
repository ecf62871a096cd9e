"""Sentences, paragraphs and Markdown blocks from the vocabulary; what is written depends on the dice alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from deploy.scripted_model.dice import Dice
from deploy.scripted_model.vocabulary import (
    EMPHATIC,
    QUALITY,
    SENTENCES,
    SIGN,
    THOUGHTS,
    TOPICS,
    WHEN,
    Topic,
)


class Writer:
    """Writes about one topic; two writers with equal dice write the same."""

    def __init__(self, dice: Dice, topic: Topic) -> None:
        self.dice = dice
        self.topic = topic
        self._decks: dict[str, list[str]] = {}

    def __getitem__(self, slot: str) -> str:
        """Fill one sentence slot; a slot named with a capital starts a sentence."""
        name = slot.lower()
        word = self._special(name) or self._draw(name, self._words(name))
        return word[0].upper() + word[1:] if slot[0].isupper() else word

    def sentence(self) -> str:
        """Return one plain sentence."""
        return self._draw("sentence", SENTENCES).format_map(self)

    def thought(self) -> str:
        """Return one sentence of reasoning."""
        return self._draw("thought", THOUGHTS).format_map(self)

    def paragraph(self, sentences: int, *, emphatic: bool = False) -> str:
        """Return `sentences` sentences, one of them with bold, italics or code if `emphatic`."""
        written = [self.sentence() for _ in range(sentences)]
        if emphatic:
            written[self.dice.roll(sentences)] = self._draw("emphatic", EMPHATIC).format_map(self)
        return " ".join(written)

    def plain(self) -> Iterator[str]:
        """Yield paragraphs without end."""
        while True:
            yield self.paragraph(3 + self.dice.roll(2))

    def rich(self) -> Iterator[str]:
        """Yield Markdown blocks without end: heading, then lists, tables, code, quotes between paragraphs."""
        yield f"## {self._draw('title', self.topic.title)}"
        yield self.paragraph(2, emphatic=True)
        kinds: tuple[Callable[[], str], ...] = (self._bullets, self._fact_block, self._steps, self._quote)
        for turn in itertools.count():
            yield kinds[turn % len(kinds)]()
            yield self.paragraph(2, emphatic=self.dice.chance(40))
            if turn % 3 == 2:
                yield f"### {self._draw('title', self.topic.title)}"
                yield self.paragraph(3)

    def _draw(self, name: str, words: tuple[str, ...]) -> str:
        # Like a deck of cards: nothing comes again before all the others have been.
        deck = self._decks.get(name)
        if not deck:
            deck = self._decks[name] = list(words)
        return deck.pop(self.dice.roll(len(deck)))

    def _special(self, name: str) -> str | None:
        match name:
            case "clock":
                return f"{4 + self.dice.roll(18)}:{self.dice.roll(6)}5"
            case "level":
                return f"{self.dice.roll(4)}.{self.dice.roll(10)}"
            case "temp":
                return str(2 + self.dice.roll(17))
            case "topic":
                return self.topic.name
            case "slug":
                return self._draw("thing", self.topic.thing).replace(" ", "_")
            case _:
                return None

    def _words(self, name: str) -> tuple[str, ...]:
        match name:
            case "when":
                return WHEN
            case "quality":
                return QUALITY
            case "sign":
                return SIGN
            case _:
                words: tuple[str, ...] = getattr(self.topic, name)
                return words

    def _bullets(self) -> str:
        lines = [f"- **{self['Thing']}**: {self['subject']} {self['does']}" for _ in range(3 + self.dice.roll(2))]
        return "Worth having at hand:\n\n" + "\n".join(lines)

    def _steps(self) -> str:
        lines = [f"{n}. Go {self['place']} and see how {self['folk']} {self['tends']}." for n in (1, 2, 3)]
        return "\n".join(lines)

    def _quote(self) -> str:
        return f"> {self.sentence()}"

    def _fact_block(self) -> str:
        return self._table() if self.dice.chance(50) else self._code()

    def _table(self) -> str:
        rows = [f"| {self['Thing']} | {self['level']} m | {self['clock']} |" for _ in range(3)]
        return "| Post | Level | Read at |\n| --- | ---: | --- |\n" + "\n".join(rows)

    def _code(self) -> str:
        name = self["slug"]
        return (
            "```python\n"
            f"def {name}(level: float) -> str:\n"
            f"    if level > {self['level']}:\n"
            f'        return "{self["does"]}"\n'
            f'    return "wait until {self["clock"]}"\n'
            "```"
        )


def choose_topic(dice: Dice, prompt: str) -> Topic:
    """Return the topic that `prompt` names, or any."""
    words = {word.strip(".,;:!?\"'()").rstrip("s") for word in prompt[:4000].lower().split()}
    return next((topic for topic in TOPICS if words.intersection(topic.cues)), dice.pick(TOPICS))
