"""What is said: text and reasoning as pure functions of the conversation. `full_text` is the oracle for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from deploy.scripted_model.conversation import Conversation, convert_messages, read_conversation
from deploy.scripted_model.dice import Dice
from deploy.scripted_model.directives import Directives, parse_directives
from deploy.scripted_model.prose import Writer, choose_topic
from deploy.scripted_model.tokens import MAX_TOKENS, pour

DEFAULT_TOKENS = 200
_REASONING_SALT = 0x7EA50
_VARIANT_SALT = 0x9E3779B97F4A7C15
_EXCERPT = 200


def full_text(messages: Sequence[Mapping[str, object]], options: Mapping[str, object] | None = None) -> str:
    """Return the whole text the model gives to `messages`, as if no prefill had been sent.

    `options` are directives and win over those in the prompt, like the body field `scripted`. A turn that calls tools
    has no text; this is then the text it would have had. With `endless`, ask for a number of `tokens` instead.
    """
    conversation = read_conversation(convert_messages(messages))
    return "".join(answer_tokens(conversation, parse_directives(conversation.directives, options)))


def full_reasoning(messages: Sequence[Mapping[str, object]], options: Mapping[str, object] | None = None) -> str:
    """Return the whole reasoning that goes before the text of the same arguments, or ''."""
    conversation = read_conversation(convert_messages(messages))
    return "".join(reasoning_tokens(conversation, parse_directives(conversation.directives, options)))


def answer_tokens(
    conversation: Conversation, directives: Directives, default_tokens: int = DEFAULT_TOKENS
) -> Iterator[str]:
    """Yield the tokens of the whole text, lazily; an oversized first one if that fault is asked for."""
    if directives.faults.huge_bytes:
        yield _boulder(directives.faults.huge_bytes)
    dice = Dice(conversation.seed ^ directives.variant * _VARIANT_SALT)
    writer = Writer(dice, choose_topic(dice, conversation.prompt))
    markdown = dice.chance(60) if directives.markdown is None else directives.markdown
    blocks = writer.rich() if markdown else writer.plain()
    if conversation.tool_outputs:
        blocks = chain([_reported(conversation)], blocks)
    asked = default_tokens if directives.tokens is None else directives.tokens
    yield from pour(blocks, writer.sentence, dice, MAX_TOKENS if directives.endless else asked)


def reasoning_tokens(conversation: Conversation, directives: Directives) -> Iterator[str]:
    """Yield the tokens of the reasoning; one prompt in four has some by itself."""
    topic = choose_topic(Dice(conversation.seed), conversation.prompt)
    dice = Dice(conversation.seed ^ _REASONING_SALT)
    writer = Writer(dice, topic)
    own = 24 + dice.roll(40)
    count = directives.reasoning
    if count is None:
        count = own if dice.chance(25) else 0
    yield from pour(iter(()), writer.thought, dice, own if count == 1 else count)


def continue_after(prefill: str, tokens: Callable[[], Iterator[str]]) -> Iterator[str]:
    """Yield what follows `prefill` in the text that `tokens` makes.

    A cut inside a token yields the rest of it first. A prefill that the text does not begin with is followed by the
    whole text.
    """
    rest = tokens()
    offset = 0
    for token in rest:
        left = len(prefill) - offset
        if left <= len(token):
            if prefill[offset:] != token[:left]:
                break
            if left < len(token):
                yield token[left:]
            yield from rest
            return
        if not prefill.startswith(token, offset):
            break
        offset += len(token)
    if not prefill[-1].isspace():
        yield " "
    yield from tokens()


def _reported(conversation: Conversation) -> str:
    said = []
    for output in conversation.tool_outputs[:8]:
        excerpt = " ".join(output.text[: 4 * _EXCERPT].split())[:_EXCERPT]
        said.append(f"The tool {output.name} answered: {excerpt or 'nothing'}.")
    return " ".join(said)


def _boulder(size: int) -> str:
    word = "boulder "
    return (word * (size // len(word) + 1))[:size]
