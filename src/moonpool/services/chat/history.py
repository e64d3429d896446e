"""What of a conversation is sent to the model. Pure.

The newest turns that fit stay; the oldest go first, whole turns at a time, so that what is left begins with
the user. The system prompt and the newest message are always sent: when even they do not fit, it is
the model's to say so, with the right error.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from moonpool.services.chat.schema import Message

MESSAGE_OVERHEAD = 6
"""Tokens a chat template puts around a message (ChatML: 5 to 6)."""
BYTES_PER_TOKEN = 3.0
"""Cautious: English is near 4 with today's vocabularies, code and other scripts are nearer to 3."""


class Turn(msgspec.Struct, frozen=True):
    """One message as the OpenAI API takes it."""

    role: Literal["system", "user", "assistant"]
    content: str


def estimate(text: str) -> int:
    """Tokens of `text`, rather too many than too few."""
    return int(len(text.encode()) / BYTES_PER_TOKEN) + MESSAGE_OVERHEAD


def compose(system: str | None, history: Sequence[Message], content: str, *, budget: int) -> list[Turn]:
    """The turns to send: `history` is older messages in order, `content` the new one, `budget` tokens."""
    pairs = _pairs(history)
    budget -= estimate(content) + (estimate(system) if system else 0)
    kept: list[Turn] = []
    for question, answer in reversed(pairs):
        budget -= estimate(question.content) + estimate(answer.content)
        if budget < 0:
            break
        kept[:0] = (question, answer)
    head = [Turn("system", system)] if system else []
    return [*head, *kept, Turn("user", content)]


def _pairs(history: Sequence[Message]) -> list[tuple[Turn, Turn]]:
    """Questions with their answers; a question that got no text is left out, for many chat templates
    refuse two messages of one role in a row."""
    pairs = []
    question: Message | None = None
    for message in history:
        if message.role == "user":
            question = message
        elif question is not None and message.content:
            pairs.append((Turn("user", question.content), Turn("assistant", message.content)))
            question = None
    return pairs
