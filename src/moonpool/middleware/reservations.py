"""How many tokens to reserve for a request before anybody has counted them. Pure.

Prompt and the most that may be answered; both are estimates, and settled on what was really used. A
request that sets no bound is reserved a usual answer, and owes what comes beyond it.
"""

from moonpool.middleware.inference import DEFAULT_ANSWER
from moonpool.middleware.resolution import BYTES_PER_TOKEN
from moonpool.openai.schema import CompletionRequest

PLAIN = 16 * 1024
"""Bytes of a body up to which its length stands for its text. In longer ones pictures may be most of it."""


def reservation(payload: object, size: int, most: int) -> int:
    """`size` is the body's bytes; `payload` is one of openai.schema's requests; `most` is what the limits
    hold at once.

    More than `most` is not asked for: it becomes debt once it is used. Only a prompt that is larger by
    itself is, and is refused for good.
    """
    prompt, answer = expected(payload, size)
    amount = prompt + answer
    return amount if amount <= most else max(prompt, most)


def expected(payload: object, size: int) -> tuple[int, int]:
    """Tokens of the prompt and, at most, of the answer."""
    if size > PLAIN:
        size = min(size, payload.characters())  # type: ignore[attr-defined]
    prompt = size // BYTES_PER_TOKEN + 1
    try:
        limit: int | None = payload.limit  # type: ignore[attr-defined]
    except AttributeError:  # embeddings are not answered in tokens
        return prompt, 0
    answers = payload.n or 1  # type: ignore[attr-defined]
    if type(payload) is CompletionRequest and payload.best_of is not None:
        answers = max(answers, payload.best_of)
    return prompt, (DEFAULT_ANSWER if limit is None else limit) * answers
