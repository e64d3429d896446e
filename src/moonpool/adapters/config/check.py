"""What a schema cannot say about a configuration: how its parts fit together. Pure."""

import math
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from moonpool.adapters.config.document import Path
from moonpool.adapters.config.schema import suggest
from moonpool.contracts.config import (
    LIMIT_DIMENSIONS,
    SERVICES,
    GatewayConfig,
    LimitConfig,
    ModelConfig,
    PlatformConfig,
    TargetConfig,
)

CAPABILITIES = ("chat", "completions", "embeddings")
LOG_LEVELS = ("debug", "info", "warning", "error")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
"""As the model service has it for those that are added by API."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Problem(NamedTuple):
    path: Path
    message: str
    hint: str


def check(config: PlatformConfig) -> list[Problem]:
    """All that does not fit, in the order of the document's sections."""
    return [
        *_models(config.models),
        *_limits(config.limits),
        *_gateway(config.gateway, shared_cache=bool(config.infrastructure.cache)),
        *_services(config),
        *_telemetry(config),
    ]


def _models(models: Mapping[str, ModelConfig]) -> Iterator[Problem]:
    for alias, model in models.items():
        path: Path = ("models", alias)
        if not _ALIAS.fullmatch(alias):
            yield Problem(
                path,
                f"{alias[:140]!r} cannot be a model's name",
                "Letters, digits and . _ : / -, at most 128, the first one a letter or digit.",
            )
        for index, target in enumerate(model.targets):
            yield from _target(target, (*path, "targets", index))
        if not any(target.weight for target in model.targets):
            yield Problem(
                (*path, "targets"), "all targets have weight 0", "Give at least one a weight of 1 or more."
            )
        for index, name in enumerate(model.capabilities):
            if name not in CAPABILITIES:
                place = (*path, "capabilities", index)
                yield Problem(place, f"{name} is no capability", suggest(name, list(CAPABILITIES)))
        for index, name in enumerate(model.fallbacks):
            if name not in models:
                place = (*path, "fallbacks", index)
                yield Problem(place, f"there is no model {name}", suggest(name, list(models)))
    cycle = find_cycle({alias: model.fallbacks for alias, model in models.items()})
    if cycle:
        yield Problem(
            ("models", cycle[0], "fallbacks"),
            f"the fallbacks lead in a circle: {' → '.join((*cycle, cycle[0]))}",
            "Remove one of them: each chain of fallbacks must end.",
        )


def _target(target: TargetConfig, path: Path) -> Iterator[Problem]:
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


def _gateway(gateway: GatewayConfig, *, shared_cache: bool) -> Iterator[Problem]:
    if bool(gateway.tls_certificate) != bool(gateway.tls_key):
        given, missing = (
            ("tls_certificate", "tls_key") if gateway.tls_certificate else ("tls_key", "tls_certificate")
        )
        yield Problem(
            ("gateway", given), f"{given} is given without {missing}", "Give both for TLS, or none."
        )
    if not math.isfinite(gateway.drain_seconds):
        path: Path = ("gateway", "drain_seconds")
        yield Problem(path, "draining must come to an end", "Give a number of seconds.")
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


def find_cycle(graph: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The names along one circle, each leading to the next; empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        backwards: list[str] = error.args[1]  # from predecessor to predecessor, the first one twice
        return backwards[:0:-1]
    return []
