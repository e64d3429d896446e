"""Requests as this service reads them: OpenAI's, with the sampling fields that local engines add.

The gateway's validation passes these fields unseen, as it does all that it does not know.
"""

from typing import Annotated

from msgspec import Meta

from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest, Probability

TopK = Annotated[int, Meta(ge=0, le=1_000_000)]
"""0: all tokens."""
RepeatPenalty = Annotated[float, Meta(gt=0, le=2)]


class ChatRequest(ChatCompletionRequest, frozen=True, kw_only=True):
    top_k: TopK | None = None
    min_p: Probability | None = None
    repetition_penalty: RepeatPenalty | None = None


class TextRequest(CompletionRequest, frozen=True, kw_only=True):
    top_k: TopK | None = None
    min_p: Probability | None = None
    repetition_penalty: RepeatPenalty | None = None
