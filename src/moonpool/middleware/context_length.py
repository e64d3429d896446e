"""What certainly does not fit into a model's context, told before anybody is asked. Pure.

Exact counts would need every model's tokeniser; an estimate would refuse what fits. So only what no
tokeniser could make fit is refused here, as the endpoint would refuse it: with the words that OpenAI has for
it, on which the model's `context_fallbacks` follow (failover.py).
"""

from collections.abc import Iterator

from moonpool.core.errors import BadRequest
from moonpool.openai.messages import text_of
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest, EmbeddingRequest

WORDS_PER_TOKEN = 4
"""Tokens end where words end, but for those of a few models, which have tokens of up to four words (SuperBPE,
arXiv:2503.13423)."""
BYTES_PER_TOKEN = 512
"""The longest tokens in the vocabularies of current models are runs of 128 to 256 blanks."""
LEAST_BYTES = 2
"""Of a request's body for a token: a number and its comma. Nothing in a shorter one can be too long."""

ModelPayload = ChatCompletionRequest | CompletionRequest | EmbeddingRequest


def check_context(payload: ModelPayload, size: int, context: int) -> None:
    """Raises BadRequest (context_length_exceeded). `size` is the body's, in bytes."""
    limit = 0 if isinstance(payload, EmbeddingRequest) else payload.limit or 0
    if limit <= context and size <= context * LEAST_BYTES:
        return
    for param, least in _least(payload):
        if least > context or limit > context:
            raise _too_long(param, least, limit, context)


def _least(payload: ModelPayload) -> Iterator[tuple[str, int]]:
    """What has to fit on its own: its place, and the tokens that it has at least."""
    if isinstance(payload, ChatCompletionRequest):
        # A message is at least the token that begins it.
        yield "messages", sum(max(1, _of_text(text_of(message))) for message in payload.messages)
        return
    if isinstance(payload, CompletionRequest):
        name, items = "prompt", payload.prompts()
    else:
        name, items = "input", payload.inputs()
    for place, item in enumerate(items):
        least = _of_text(item) if isinstance(item, str) else len(item)
        yield name if len(items) == 1 else f"{name}[{place}]", least


def _of_text(text: str) -> int:
    return max(len(text.split()) // WORDS_PER_TOKEN, len(text) // BYTES_PER_TOKEN)


def _too_long(param: str, least: int, limit: int, context: int) -> BadRequest:
    parts = (
        f" (at least {least} in the {param.partition('[')[0]}, {limit} in the completion)" if limit else ""
    )
    return BadRequest(
        f"This model's maximum context length is {context} tokens. "
        f"However, you requested at least {least + limit} tokens{parts}.",
        code="context_length_exceeded",
        param=param,
        hint="Shorten the prompt." if least > context else "Ask for fewer tokens, or leave max_tokens out.",
    )
