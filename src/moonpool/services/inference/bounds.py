"""What cannot fit into a model's context, told without counting tokens. Pure.

Preparing a prompt holds a slot and cannot be interrupted: the template takes seconds over ten thousand
messages, the tokeniser over megabytes of text. So what is certain is refused first.
"""

from collections.abc import Iterable

from moonpool.core.errors import BadRequest
from moonpool.openai.messages import Message, text_of
from moonpool.services.inference.engine import Prompt

LONGEST_TOKEN = 512
"""Bytes; the longest tokens in the vocabularies of current models are runs of 128 to 256 blanks."""


def check_messages(messages: Iterable[Message], context: int) -> None:
    """Raises BadRequest (context_length_exceeded). A message is at least the token that begins it."""
    count = size = 0
    for message in messages:
        count += 1
        size += len(text_of(message).encode())
    _check(max(count, size // LONGEST_TOKEN), context, "messages")


def check_prompt(prompt: Prompt, context: int, param: str) -> None:
    """Raises BadRequest (context_length_exceeded) that names `param`."""
    least = len(prompt.encode()) // LONGEST_TOKEN if isinstance(prompt, str) else len(prompt)
    _check(least, context, param)


def _check(least: int, context: int, param: str) -> None:
    if least > context:
        raise BadRequest(
            f"This model's maximum context length is {context} tokens. "
            f"However, your request has at least {least} tokens.",
            code="context_length_exceeded",
            param=param,
            hint="Shorten the prompt.",
        )
