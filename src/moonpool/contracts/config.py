"""The platform's configuration document, as the file given to `moonpool up --config` has it.

Every field has a default that needs no configuration. Secrets are never in it: it names environment
variables that hold them.
"""

from typing import Annotated, Literal

import msgspec

from moonpool.contracts.money import PriceConfig
from moonpool.contracts.names import END
from moonpool.contracts.resilience import LARGEST_COUNT, NotNegative, ResilienceConfig
from moonpool.contracts.resilience import PositiveInt as PositiveInt
from moonpool.contracts.route_policy import RoutePolicy

MOST_WEIGHT = 1_000_000


class TargetConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of `url` (an OpenAI-compatible base, ending in /v1) and `local` (a GGUF file, or `packaged`
    for the small model that comes with the platform)."""

    url: str = ""
    local: str = ""
    model: str = ""
    api_key_env: str = ""
    priority: Annotated[int, msgspec.Meta(ge=0, le=MOST_WEIGHT)] = 0
    weight: Annotated[int, msgspec.Meta(ge=0, le=MOST_WEIGHT)] = 1
    continuation: Literal["prefix", "final", "none"] = "final"
    """How this endpoint is asked to go on with an answer that broke off elsewhere, which it is given as the
    beginning of the assistant's message: with `"prefix": true` on it (DeepSeek, below /beta), with
    `continue_final_message` beside it (vLLM, SGLang; llama.cpp and Ollama need neither), or not at all, for
    endpoints that would begin anew."""


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    targets: Annotated[tuple[TargetConfig, ...], msgspec.Meta(min_length=1)]
    fallbacks: tuple[str, ...] = ()
    """Aliases that may answer when no target of this one can, in their order."""
    context_fallbacks: tuple[str, ...] = ()
    """Those for prompts that are too long for this one."""
    policy_fallbacks: tuple[str, ...] = ()
    """Those for what this one's provider refuses by its content policy."""
    context: PositiveInt | None = None
    capabilities: tuple[str, ...] = ("chat", "completions", "embeddings")
    price: PriceConfig | None = None
    """None: it is free."""


REQUESTS_PER_MINUTE = 600
TOKENS_PER_MINUTE = 200_000
CONCURRENT = 64


class LimitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is not given is, in `default`, the numbers above; elsewhere it is not limited by that entry.

    `burst` is how many requests may come at once; without it, as many as in a minute.
    """

    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    concurrent: PositiveInt | None = None
    burst: PositiveInt | None = None


LIMIT_DIMENSIONS = ("address", "key", "user", "organisation", "model", "route")


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    workers: PositiveInt = 1
    tls_certificate: str = ""
    tls_key: str = ""
    drain_seconds: NotNegative = 30.0
    """For what is under way, in every module, when the platform ends."""
    replaced_drain_seconds: NotNegative = 900.0
    """The same where another instance has taken over, never less than `drain_seconds`: as long as an answer
    may take to begin (services/inference/manifest.py)."""
    max_active_requests: PositiveInt = 4096
    """Above this the health gate sheds, lowest priority first."""
    allow_private_targets: bool = True
    """Whether model targets may be on loopback and private networks (a laptop's Ollama is)."""


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    instances: PositiveInt = 1
    database: str = ""
    """URL; default: `sqlite:///DATA/db/SERVICE.db`."""


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The local engine. `threads` 0: chosen from the machine's cores."""

    slots: PositiveInt = 4
    queue: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)] = 64
    context: PositiveInt = 4096
    """Tokens of context a slot has."""
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0


class InfrastructureConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """URLs; "" is the embedded default below the data folder. The scheme chooses the adapter."""

    config: str = ""
    """Where the config server keeps the documents: read from the file and the environment only."""
    events: str = ""
    cache: str = ""
    objects: str = ""


class TelemetryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    log_level: str = "info"
    access_log: bool = True
    keep_requests: PositiveInt = 1000
    """Recent requests whose decisions a gateway holds in memory."""
    otlp: str = ""
    """URL of an OpenTelemetry collector that takes OTLP/HTTP; "": what OTEL_EXPORTER_OTLP_ENDPOINT names, or
    nobody."""
    trace_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """Of the traces that begin here, how many are exported (and no more than so many a second, see
    middleware/sampling.py). Those of callers that record theirs, failures and fallbacks always are."""


class BillingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`overdraft` is in the currency: how far below zero a balance may go. Without `enforce` usage is priced
    and booked, and nobody is refused. Nothing of it matters as long as no model has a price."""

    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}" + END)] = "USD"
    """ISO 4217; a name only: nothing is converted."""
    overdraft: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    enforce: bool = True


class PlatformConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole document. Without `models`, the packaged small model is served as `smollm2`."""

    models: dict[str, ModelConfig] = {}
    limits: dict[str, LimitConfig] = {}
    """`default` is for every caller: an API key, or a signed-in user. `DIMENSION:NAME` is one bucket for that
    address, key (by its public id), user, organisation, model or route (by its path); `DIMENSION:*` is one
    for each of them. All that fit a request hold at once, except that `key:NAME` and a key's own limits
    stand in the place of `default`, field by field, and `DIMENSION:NAME` in that of `DIMENSION:*`."""
    routes: dict[str, RoutePolicy] = {}
    """By `METHOD /path`: what is wanted otherwise than the service's manifest has it."""
    gateway: GatewayConfig = GatewayConfig()
    services: dict[str, ServiceConfig] = {}
    engine: EngineConfig = EngineConfig()
    infrastructure: InfrastructureConfig = InfrastructureConfig()
    resilience: ResilienceConfig = ResilienceConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    billing: BillingConfig = BillingConfig()


DEFAULT_MODEL = "smollm2"
PACKAGED = "packaged"
"""What a target's `local` says for the small model that comes with the platform."""
PACKAGED_MODELS = {DEFAULT_MODEL: ModelConfig(targets=(TargetConfig(local=PACKAGED),))}
"""What is served when no model is configured."""
SERVICES = ("auth", "user", "chat", "model", "inference", "training", "monitoring", "storage", "billing")
