"""The request that has an endpoint go on with an answer that another one began. Pure.

A local instance gets the tokens (contracts/continuation.py). An external endpoint gets the text as the
beginning of the assistant's message, which is DeepSeek's "chat prefix completion" and what others understand
as well; a text completion gets it as the end of the prompt.
"""

from enum import Enum

import msgspec

from moonpool.contracts.continuation import CONTINUE, FIELD, ON, TOKENS
from moonpool.middleware.transcript import Transcript
from moonpool.openai.messages import AssistantMessage, text_of
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest

LIMITS = ("max_tokens", "max_completion_tokens")
TRACED = {TOKENS: ON}
"""Headers for a local instance whose stream may have to be continued."""
CONTINUED = {TOKENS: ON, CONTINUE: ON}
"""Headers of `local_body`."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class Prefill(Enum):
    """How an endpoint is told that the last message is not complete."""

    PREFIX = "prefix"
    """`"prefix": true` on the message: DeepSeek (below /beta), Moonpool; llama.cpp needs no word."""
    FINAL = "final"
    """`continue_final_message` beside the messages: vLLM, SGLang."""


def local_body(body: bytes, transcript: Transcript) -> bytes:
    """`body` is what the instance would be asked for the whole answer."""
    fields = _fields.decode(body)
    fields[FIELD] = _raw(transcript.begun())
    return _encode(fields)


def prefill_body(
    body: bytes,
    payload: ChatCompletionRequest | CompletionRequest,
    transcript: Transcript,
    prefill: Prefill = Prefill.PREFIX,
) -> bytes:
    """`body` is what the endpoint would be asked for the whole answer: parsed, it is `payload` but for names.

    An answer of which nothing was said is simply asked for again.
    """
    if not transcript.text:
        return body
    fields = _fields.decode(body)
    for name in LIMITS:
        limit = getattr(payload, name, None)
        if limit is not None:
            fields[name] = _raw(max(1, limit - transcript.count))
    if isinstance(payload, CompletionRequest):
        assert isinstance(payload.prompt, str), "see continuable"
        fields["prompt"] = _raw(payload.prompt + transcript.text)
        return _encode(fields)
    fields["messages"] = _raw(_messages(_list.decode(fields["messages"]), payload, transcript, prefill))
    if prefill is Prefill.FINAL:
        fields["continue_final_message"] = _raw(True)
        fields["add_generation_prompt"] = _raw(False)
    return _encode(fields)


def _messages(
    messages: list[msgspec.Raw], payload: ChatCompletionRequest, transcript: Transcript, prefill: Prefill
) -> list[msgspec.Raw]:
    """The answer so far as the last message, joined to the client's own prefix if it sent one."""
    last = payload.messages[-1]
    begin = ""
    if isinstance(last, AssistantMessage) and not last.tool_calls:
        begin = text_of(last)
        messages = messages[:-1]
    message: dict[str, object] = {"role": "assistant", "content": begin + transcript.text}
    if transcript.reasoning:
        message["reasoning_content"] = transcript.reasoning
    if prefill is Prefill.PREFIX:
        message["prefix"] = True
    return [*messages, _raw(message)]


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))
