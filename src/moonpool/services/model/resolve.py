"""From what was written about a model to what the catalogue says about it. Pure.

A local target has no URL; its `model` is the alias under which the inference service has loaded the
weights. Configured models are loaded under their own alias; a model added by API has no file of its own
and names one of those.
"""

import ipaddress
import re
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import SplitResult, urlsplit

import msgspec

from moonpool.contracts.catalogue import Model, Target
from moonpool.contracts.config import ModelConfig, TargetConfig
from moonpool.contracts.money import PriceConfig, token_price
from moonpool.contracts.usage import TokenPrice
from moonpool.core.errors import BadRequest

CAPABILITIES = ("chat", "completions", "embeddings")

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ID_LENGTH = 16


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model was written down, and what is allowed there.

    `loaded` maps the aliases that the inference service has weights for to the weights' fingerprint.
    """

    added: bool
    """By API, on top of the configuration file; False: in the file."""
    loaded: Mapping[str, str]
    allow_private: bool = True
    local_context: int | None = None
    """Tokens of context that the inference service gives each request to its weights."""


def loaded_aliases(models: Mapping[str, ModelConfig]) -> dict[str, str]:
    """The configured aliases with a local target, and the file each names."""
    return {
        alias: target.local for alias, model in models.items() for target in model.targets if target.local
    }


def resolve(alias: str, config: ModelConfig, layer: Layer) -> Model:
    """The catalogue's entry, without the time of its creation.

    Raises BadRequest, whose `param` is the place in `config`.
    """
    if not _ALIAS.fullmatch(alias):
        raise _bad(
            "model",
            f"'{alias[:140]}' cannot be a model's name",
            "Letters, digits and . _ : / -, at most 128, the first one a letter or digit.",
        )
    targets = tuple(
        _target(alias, target, f"targets[{place}]", layer) for place, target in enumerate(config.targets)
    )
    if len({target.id for target in targets}) < len(targets):
        raise _bad("targets", "the same target is listed twice", "Give one of them the sum of the weights.")
    if all(target.weight == 0 for target in targets):
        raise _bad("targets", "all targets have weight 0: none would ever answer", "Raise one weight.")
    weights = [layer.loaded.get(target.model, "") for target in targets if not target.url]
    return Model(
        id=alias,
        targets=targets,
        fallbacks=config.fallbacks,
        context_fallbacks=config.context_fallbacks,
        policy_fallbacks=config.policy_fallbacks,
        context=_context(config, layer),
        capabilities=_capabilities(config.capabilities),
        price=_price(config.price),
        revision=_digest(*sorted(target.id for target in targets), *weights),
    )


def _context(config: ModelConfig, layer: Layer) -> int | None:
    """What others than the local engine bear is not known."""
    if config.context is None and all(target.local for target in config.targets):
        return layer.local_context
    return config.context


def _price(price: PriceConfig | None) -> TokenPrice | None:
    try:
        return token_price(price)
    except ValueError as error:
        hint = "It is for a million tokens, in the currency, like 0.27."
        raise _bad("price", f"the price cannot be: {error}", hint) from None


def _target(alias: str, target: TargetConfig, where: str, layer: Layer) -> Target:
    if bool(target.url) == bool(target.local):
        raise _bad(where, "a target has either `url` or `local`", "Name an endpoint or a local model.")
    _check_variable(target.api_key_env, f"{where}.api_key_env", layer)
    if target.url:
        url, name = _url(target.url, f"{where}.url", layer.allow_private), target.model or alias
    else:
        url, name = "", _local(alias, target.local, f"{where}.local", layer)
    return Target(
        id="tgt_" + _digest(url, name, target.api_key_env),
        url=url,
        model=name,
        api_key_env=target.api_key_env,
        priority=target.priority,
        weight=target.weight,
        continuation=target.continuation,
    )


def _local(alias: str, local: str, where: str, layer: Layer) -> str:
    if not layer.added:
        return alias
    if local not in layer.loaded:
        raise _bad(
            where,
            f"no local model '{local}' is loaded",
            f"Loaded are: {', '.join(sorted(layer.loaded)) or 'none'}. "
            "Weights are added in the configuration file.",
        )
    return local


def _check_variable(name: str, where: str, layer: Layer) -> None:
    if not name:
        return
    if not _VARIABLE.fullmatch(name):
        raise _bad(
            where,
            "this is not the name of an environment variable",
            "Put the key into an environment variable of the gateway and name that.",
        )
    # An admin of the platform is not the admin of its machine: by API nobody may have any of the
    # process's secrets sent to an address of his choice.
    if layer.added and (not name.endswith("_API_KEY") or name.startswith("MOONPOOL_")):
        raise _bad(
            where,
            f"'{name}' may not be sent to an endpoint",
            "By API only variables that end in _API_KEY can be named; others in the configuration file.",
        )


def _url(url: str, where: str, allow_private: bool) -> str:
    parts = _split(url, where)
    if parts.scheme not in {"http", "https"}:
        raise _bad(where, f"'{parts.scheme}' is no scheme for an endpoint", "Use http:// or https://.")
    if parts.username is not None or parts.password is not None:
        raise _bad(where, "a URL may not carry credentials", "Name a variable with `api_key_env` instead.")
    if parts.query or parts.fragment:
        raise _bad(
            where, "a base URL has no query and no fragment", "Give the part before /chat/completions."
        )
    if not allow_private and _is_private(parts.hostname or ""):
        raise _bad(
            where, "targets on private networks are not allowed here", "See gateway.allow_private_targets."
        )
    return url.rstrip("/")


def _split(url: str, where: str) -> SplitResult:
    hint = "For example https://api.deepseek.com/v1."
    if any(character.isspace() or not character.isprintable() for character in url):
        raise _bad(where, "a URL has no spaces or control characters", hint)
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as error:
        raise _bad(where, f"this is not a URL: {error}", hint) from None
    if not parts.hostname or not port_is_fine:
        raise _bad(where, "this is not a URL with a host", hint)
    return parts


def _is_private(host: str) -> bool:
    """By the name alone; what a name resolves to is for the gateway to judge when it connects."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _capabilities(capabilities: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in capabilities if name not in CAPABILITIES]
    if unknown or not capabilities:
        message = f"there is no capability '{unknown[0]}'" if unknown else "a model can do at least one thing"
        raise _bad("capabilities", message, f"The capabilities are {', '.join(CAPABILITIES)}.")
    return tuple(name for name in CAPABILITIES if name in capabilities)


def _digest(*values: str) -> str:
    return sha256("\n".join(values).encode()).hexdigest()[:_ID_LENGTH]


def _bad(param: str, message: str, hint: str) -> BadRequest:
    return BadRequest(message, code="invalid_value", param=param, hint=hint)
