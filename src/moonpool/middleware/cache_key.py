"""Under what an answer is kept: who may see it, what would answer, and what was asked. Pure.

Two requests have one key when the same model would have to answer them alike: order of members, blanks, and
fields that do not reach the model (how the answer is delivered, whose bill it is) make no difference.
"""

from hashlib import blake2b

import msgspec

from moonpool.contracts.catalogue import Model

NOT_ASKED = frozenset(
    {"model", "stream", "stream_options", "user", "metadata", "store", "service_tier"}
    | {"prompt_cache_key", "prompt_cache_retention", "safety_identifier"}
)
"""Members that say nothing about the answer's content. The model stands in the key as what it is now."""

_decode = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def deterministic(payload: object) -> bool:
    """Whether the answer is the same each time: greedy sampling, a seed, or no sampling at all.

    `payload` is one of openai.schema's requests."""
    try:
        return payload.temperature == 0 or payload.seed is not None  # type: ignore[attr-defined]
    except AttributeError:
        return True  # embeddings


def cache_key(*, tenant: str, release: str, model: Model, path: str, body: bytes) -> str:
    """`release` is the one that the version router has assigned; `body` was validated."""
    fields = {name: value for name, value in _decode(body).items() if value is not None}
    asked = {name: value for name, value in fields.items() if name not in NOT_ASKED}
    places = [(target.url, target.model) for target in model.targets]
    parts = [tenant, release, path, model.id, model.revision, places, asked]
    return "answer:" + blake2b(_encode(parts), digest_size=24).hexdigest()
