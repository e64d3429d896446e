"""How many tokens to reserve for a request before anybody has counted them. Pure.

Prompt and the most that may be answered; both are estimates, and settled on what was really used. A
request that sets no bound is reserved a usual answer, and owes what comes beyond it.
"""

from moonpool.middleware.inference import BYTES_PER_TOKEN, DEFAULT_ANSWER

PLAIN = 16 * 1024
"""Bytes of a body up to which its length stands for its text. In longer ones pictures may be most of it."""


def reservation(payload: object, size: int, most: int) -> int:
    """`size` is the body's bytes; `payload` is one of openai.schema's requests; `most` is what the limits
    hold at once.

    More than `most` is not asked for: it becomes debt once it is used. Only a prompt that is larger by
    itself is, and is refused for good.
    """
    if size > PLAIN:
        size = min(size, payload.characters())  # type: ignore[attr-defined]
    prompt = size // BYTES_PER_TOKEN + 1
    amount = prompt + _answer(payload)
    return amount if amount <= most else max(prompt, most)


def _answer(payload: object) -> int:
    """Tokens of all choices together; embeddings have none."""
    try:
        limit: int | None = payload.limit  # type: ignore[attr-defined]
    except AttributeError:
        return 0
    if limit is None:
        limit = DEFAULT_ANSWER
    answers: int | None = payload.n  # type: ignore[attr-defined]
    if answers is None:
        answers = 1
    return limit * max(answers, getattr(payload, "best_of", None) or 1)
