"""The platform's configuration as a document: how its parts must fit together, and what of it takes effect
only at the next start. Pure.

What is followed while the platform runs: `models` (but weights that were never loaded), `limits`, `routes`,
`resilience`, `telemetry.log_level`, `engine.queue`, `gateway.allow_private_targets`,
`gateway.max_active_requests`, `billing` (but its currency). Everything else is read once, when a process
starts.
"""

import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from moonpool.contracts.config import (
    LIMIT_DIMENSIONS,
    PACKAGED,
    SERVICES,
    BillingConfig,
    GatewayConfig,
    LimitConfig,
    ModelConfig,
    PlatformConfig,
    TargetConfig,
)
from moonpool.contracts.documents.diff import differences
from moonpool.contracts.documents.local_models import local_files, lost_models
from moonpool.contracts.documents.place import spell
from moonpool.contracts.documents.schema import suggest
from moonpool.contracts.money import nano, token_price
from moonpool.ports.config import Kind, Path, Problem

CAPABILITIES = ("chat", "completions", "embeddings")
LOG_LEVELS = ("debug", "info", "warning", "error")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
"""As the model service has it for those that are added by API."""
_LIVE: tuple[Path, ...] = (
    ("models",),
    ("limits",),
    ("routes",),
    ("resilience",),
    ("telemetry", "log_level"),
    ("engine", "queue"),
    ("gateway", "allow_private_targets"),
    ("gateway", "max_active_requests"),
    ("billing", "overdraft"),
    ("billing", "enforce"),
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check(config: PlatformConfig) -> list[Problem]:
    """All that does not fit, in the order of the document's sections."""
    return [
        *_models(config.models, allow_private=config.gateway.allow_private_targets),
        *_limits(config.limits),
        *_gateway(config.gateway, shared_cache=is_shared(config.infrastructure.cache)),
        *_services(config),
        *_telemetry(config),
        *_billing(config.billing),
    ]


def _models(models: Mapping[str, ModelConfig], *, allow_private: bool) -> Iterator[Problem]:
    for alias, model in models.items():
        path: Path = ("models", alias)
        if not _ALIAS.fullmatch(alias):
            yield Problem(
                path,
                f"{alias[:140]!r} cannot be a model's name",
                "Letters, digits and . _ : / -, at most 128, the first one a letter or digit.",
            )
        for index, target in enumerate(model.targets):
            yield from _target(target, (*path, "targets", index), allow_private)
            if any(_same(target, other, alias) for other in model.targets[:index]):
                place = (*path, "targets", index)
                yield Problem(place, "the same target is listed twice", "Give one the sum of the weights.")
        if not any(target.weight for target in model.targets):
            yield Problem(
                (*path, "targets"), "all targets have weight 0", "Give at least one a weight of 1 or more."
            )
        if not model.capabilities:
            yield Problem(
                (*path, "capabilities"),
                "a model can do at least one thing",
                f"The capabilities are {', '.join(CAPABILITIES)}.",
            )
        for index, name in enumerate(model.capabilities):
            if name not in CAPABILITIES:
                place = (*path, "capabilities", index)
                yield Problem(place, f"{name} is no capability", suggest(name, list(CAPABILITIES)))
        try:
            token_price(model.price)
        except ValueError as error:
            yield Problem(
                (*path, "price"),
                f"the price cannot be: {error}",
                "It is for a million tokens, in the currency, like prompt: 0.27.",
            )
        for index, name in enumerate(model.fallbacks):
            if name not in models:
                place = (*path, "fallbacks", index)
                yield Problem(place, f"there is no model {name}", suggest(name, list(models)))
            elif name in model.fallbacks[:index]:
                yield Problem(
                    (*path, "fallbacks", index), f"{name} is listed twice", "Leave one of them out."
                )
    cycle = find_cycle({alias: model.fallbacks for alias, model in models.items()})
    if cycle:
        yield Problem(
            ("models", cycle[0], "fallbacks"),
            f"the fallbacks lead in a circle: {' → '.join((*cycle, cycle[0]))}",
            "Remove one of them: each chain of fallbacks must end.",
        )


def _same(one: TargetConfig, other: TargetConfig, alias: str) -> bool:
    """Whether both lead to the same place with the same key. An alias has one file of weights."""

    def place(target: TargetConfig) -> tuple[str, str, str]:
        name = alias if target.local else target.model or alias
        return target.url.rstrip("/"), name, target.api_key_env

    return place(one) == place(other)


def _target(target: TargetConfig, path: Path, allow_private: bool) -> Iterator[Problem]:
    if bool(target.url) == bool(target.local):
        both = "both url and local" if target.url else "neither url nor local"
        yield Problem(
            path,
            f"the target has {both}",
            "Give exactly one: `url` for an OpenAI-compatible endpoint, `local` for a GGUF file.",
        )
    if target.url and not _is_http(target.url):
        yield Problem(
            (*path, "url"),
            f"{target.url} is not an http or https URL",
            "Write it like http://127.0.0.1:9100/v1, without user, query or fragment.",
        )
    elif target.url and not allow_private and _is_private(urlsplit(target.url).hostname or ""):
        yield Problem(
            (*path, "url"),
            "targets on private networks are not allowed here",
            "See gateway.allow_private_targets.",
        )
    if target.api_key_env and not _VARIABLE.fullmatch(target.api_key_env):
        # Not repeated in the message: it may well be the key.
        yield Problem(
            (*path, "api_key_env"),
            "this is not the name of an environment variable",
            "Put the key into a variable, for example DEEPSEEK_API_KEY, and write the name here.",
        )


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or "@" in parts.netloc) and " " not in url
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and plain


def _is_private(host: str) -> bool:
    """By the name alone, as the model service judges those that come by API."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False


def _limits(limits: Mapping[str, LimitConfig]) -> Iterator[Problem]:
    for name, limit in limits.items():
        path: Path = ("limits", name)
        dimension, colon, which = name.partition(":")
        if name != "default" and dimension not in LIMIT_DIMENSIONS:
            known = ["default", *(f"{one}:NAME" for one in LIMIT_DIMENSIONS)]
            yield Problem(path, f"{name} says not whom it limits", suggest(name, known))
        elif name != "default" and (not colon or not which):
            yield Problem(
                path,
                f"{name} says not which {dimension} it limits",
                f"Write {dimension}:NAME for one, or {dimension}:* for each.",
            )
        elif name == "key:*":
            yield Problem(path, "each key is limited by `default` already", "Write default.")
        elif dimension == "route" and which != "*" and not which.startswith("/"):
            yield Problem(path, f"{which} is not a path", "Write it like route:/v1/chat/completions.")
        elif dimension == "address" and which != "*" and not _is_address(which):
            yield Problem(path, f"{which} is not an IP address", "Write it like address:192.0.2.7.")
        if limit.burst is not None and limit.requests_per_minute is None and name != "default":
            yield Problem(
                (*path, "burst"), "burst is of requests_per_minute, which is not given", "Give both, or none."
            )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_shared(cache: str) -> bool:
    """Whether what counts and keeps there is the same for all gateways."""
    return not (cache or "memory:").startswith("memory:")


def _gateway(gateway: GatewayConfig, *, shared_cache: bool) -> Iterator[Problem]:
    if bool(gateway.tls_certificate) != bool(gateway.tls_key):
        given, missing = (
            ("tls_certificate", "tls_key") if gateway.tls_certificate else ("tls_key", "tls_certificate")
        )
        yield Problem(
            ("gateway", given), f"{given} is given without {missing}", "Give both for TLS, or none."
        )
    if gateway.workers > 1 and not shared_cache:
        yield Problem(
            ("gateway", "workers"),
            "more than one gateway worker needs a shared cache, or each would count limits for itself",
            "Set infrastructure.cache to a redis:// URL, or workers to 1.",
        )


def _services(config: PlatformConfig) -> Iterator[Problem]:
    for name in config.services:
        if name not in SERVICES:
            yield Problem(("services", name), f"there is no service {name}", suggest(name, list(SERVICES)))


def _telemetry(config: PlatformConfig) -> Iterator[Problem]:
    level = config.telemetry.log_level
    if level not in LOG_LEVELS:
        path: Path = ("telemetry", "log_level")
        yield Problem(path, f"{level} is no log level", suggest(level, list(LOG_LEVELS)))


def _billing(billing: BillingConfig) -> Iterator[Problem]:
    try:
        nano(billing.overdraft)
    except ValueError as error:
        yield Problem(("billing", "overdraft"), f"the overdraft cannot be: {error}", "Write it like 5.00.")


def find_cycle(graph: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The names along one circle, each leading to the next; empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        backwards: list[str] = error.args[1]  # from predecessor to predecessor, the first one twice
        return backwards[:0:-1]
    return []


def restart_paths(old: PlatformConfig, new: PlatformConfig) -> Iterator[Path]:
    """What of the change from `old` to `new` waits for the next start."""
    for path, _, _ in differences(msgspec.to_builtins(old), msgspec.to_builtins(new)):
        if not any(path[: len(live)] == live for live in _LIVE):
            yield path
    loaded = local_files(old)
    for alias, model in new.models.items():
        for index, target in enumerate(model.targets):
            if target.local and target.local not in loaded:
                yield "models", alias, "targets", index, "local"
    if not new.models and PACKAGED not in loaded:
        yield ("models",)


def lost(started: PlatformConfig, old: PlatformConfig, new: PlatformConfig) -> Iterator[str]:
    """What clients can use with `old` and no longer with `new`."""
    for alias in lost_models(started, old, new):
        yield spell(("models", alias))


def _check(_name: str, config: PlatformConfig) -> list[Problem]:
    return check(config)


PLATFORM = Kind(
    name="platform",
    shape=PlatformConfig,
    summary="The platform's configuration: models, limits, routes, resilience, gateway and more.",
    check=_check,
    restart=restart_paths,
    lost=lost,
    environment=True,
)
