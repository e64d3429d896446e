"""What inference offers and how it is to be called."""

from moonpool.contracts.manifest import Access, BalancerKind, Cached, Letters, Manifest, Route, Timeouts

_GENERATION = Timeouts(total=900.0, connect=2.0, first_byte=300.0, between_bytes=60.0)
"""A long prompt on a small machine takes minutes to read, and may wait in the queue before."""


def _route(path: str, schema: str, summary: str) -> Route:
    return Route(
        method="POST",
        path=path,
        access=Access.KEY,
        scope="inference",
        schema=schema,
        balancer=BalancerKind.INFERENCE,
        timeouts=_GENERATION,
        metered=True,
        cached=Cached(),
        repeatable=True,
        letters=Letters.FAILED,
        summary=summary,
    )


MANIFEST = Manifest(
    service="inference",
    summary="Chat completions, completions and embeddings.",
    fallback="moonpool.services.inference.fallback:create",
    routes=(
        _route("/v1/chat/completions", "ChatCompletionRequest", "Answer a conversation."),
        _route("/v1/completions", "CompletionRequest", "Continue a text."),
        _route("/beta/completions", "CompletionRequest", "Continue a text (DeepSeek's path)."),
        _route("/v1/embeddings", "EmbeddingRequest", "Vectors of texts."),
    ),
)
