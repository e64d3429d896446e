"""The catalogue of models: aliases, and the ordered targets each resolves to."""

from typing import Protocol

import msgspec

from moonpool.contracts.usage import TokenPrice

CHANGES = "model.changes"
"""Event-log topic: an event says that the catalogue has a newer version."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One place that can answer for an alias. Lower `priority` first; equal ones share by `weight`.

    `url` is an OpenAI-compatible base (…/v1) or "" for the platform's own inference service; `model` is
    the name there. `api_key_env` names an environment variable of the gateway: keys are never stored.
    """

    id: str
    url: str = ""
    model: str = ""
    api_key_env: str = ""
    priority: int = 0
    weight: int = 1
    continuation: str = "final"
    """How the endpoint goes on with an answer that broke elsewhere: "prefix", "final" or "none"."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """`fallbacks` are the aliases that may answer when no target can; `context_fallbacks` those for prompts
    that are too long for it; `policy_fallbacks` those for what its provider's content policy refuses.
    `context` is the most tokens of prompt and answer together; None: unknown, not checked.

    `capabilities`: of chat, completions, embeddings. `created` is Unix seconds.
    """

    id: str
    targets: tuple[Target, ...]
    fallbacks: tuple[str, ...] = ()
    context_fallbacks: tuple[str, ...] = ()
    policy_fallbacks: tuple[str, ...] = ()
    context: int | None = None
    capabilities: tuple[str, ...] = ("chat", "completions", "embeddings")
    owned_by: str = "moonpool"
    created: int = 0
    revision: str = ""
    """Changes when the weights behind the alias do: part of cache keys."""
    price: TokenPrice | None = None
    """None: it is free."""


class Catalogue(msgspec.Struct, frozen=True):
    version: int
    models: tuple[Model, ...]


class CatalogueClient(Protocol):
    async def catalogue(self, known: int | None = None) -> Catalogue:
        """With `known`, waits about a second for another version than that. Raises Unavailable when the model
        service is away."""
