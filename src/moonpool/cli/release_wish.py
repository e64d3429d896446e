"""From the words of `moonpool release add` to a release, and back to words. Pure but for the user's name."""

import getpass
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

from moonpool.contracts.money import PriceConfig
from moonpool.contracts.releases import (
    LABEL,
    CommandSource,
    EndpointSource,
    EnvironmentSource,
    ImageSource,
    Overrides,
    PackageSource,
    Release,
    Source,
)
from moonpool.core.errors import Unprocessable


@dataclass(frozen=True, kw_only=True)
class Wish:
    """As it was typed; `label` "" is the next number."""

    service: str
    label: str = ""
    wheel: Path | None = None
    environment: Path | None = None
    command: str = ""
    ready_path: str = "/readyz"
    folder: str = ""
    url: str = ""
    model: str = ""
    api_key_env: str = ""
    price: str = ""
    settings: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    replicas: int | None = None
    note: str = ""


def release_of(wish: Wish, taken: Collection[str], now: float) -> Release:
    """Raises Unprocessable. The environment of a wheel is still to be built."""
    if wish.label and re.fullmatch(LABEL, wish.label) is None:
        hint = "Labels are lower-case letters and digits, with dots, dashes and underscores between, like v2."
        raise Unprocessable(f"{wish.label!r} is no label", hint=hint)
    try:
        return msgspec.convert(
            {
                "service": wish.service,
                "label": wish.label or next_label(taken),
                "source": msgspec.to_builtins(_source(wish)),
                "overrides": _overrides(wish),
                "created": now,
                "by": getpass.getuser(),
                "note": wish.note,
            },
            Release,
            strict=False,
        )
    except msgspec.ValidationError as error:
        raise Unprocessable(f"it cannot be: {error}", hint="See `moonpool release add --help`.") from None


def next_label(taken: Collection[str]) -> str:
    numbers = [int(match[1]) for label in taken if (match := re.fullmatch(r"v(\d+)", label))]
    return f"v{max([1, *numbers]) + 1}"


def _source(wish: Wish) -> Source:
    chosen = [wish.wheel is not None, wish.environment is not None, bool(wish.command), bool(wish.url)]
    if sum(chosen) > 1:
        raise Unprocessable("it has one source only", hint="Choose --from, --venv, --command or --url.")
    if (wish.model or wish.api_key_env or wish.price) and not wish.url:
        raise Unprocessable("--model, --api-key-env and --price belong to --url")
    if wish.environment is not None:
        return EnvironmentSource(path=str(wish.environment.absolute()))
    if wish.command:
        try:
            argv = tuple(shlex.split(wish.command))
        except ValueError as error:
            raise Unprocessable(f"--command cannot be read: {error}") from None
        folder = str(Path(wish.folder).absolute()) if wish.folder else ""
        return CommandSource(argv=argv, folder=folder, ready_path=wish.ready_path)
    if wish.url:
        return EndpointSource(
            url=wish.url.rstrip("/"),
            model=wish.model,
            api_key_env=wish.api_key_env,
            price=_price(wish.price) if wish.price else msgspec.UNSET,
        )
    return PackageSource()


def _price(text: str) -> PriceConfig:
    """ "prompt=0.27,cached_prompt=0.07,completion=1.10": of a million tokens."""
    found = {}
    for part in text.split(","):
        name, value = _pair(part.strip(), "--price")
        try:
            found[name] = float(value)
        except ValueError:
            raise Unprocessable(f"--price {part.strip()}: {value} is no number") from None
    try:
        return msgspec.convert(found, PriceConfig)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"--price {text}: {error}", hint="Such as prompt=0.27,completion=1.10.") from None


def _overrides(wish: Wish) -> dict[str, object]:
    found: dict[str, object] = {}
    for text in wish.settings:
        name, value = _pair(text, "--set")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise Unprocessable(f"--set {name}: the value is no YAML: {value}") from None
        _put(found, name.split("."), parsed, name)
    if wish.replicas is not None:
        found["instances"] = wish.replicas
    for text in wish.variables:
        name, value = _pair(text, "--env")
        _put(found, ["environment", name], value, name)
    known = Overrides.__struct_fields__
    for name in found:
        if name not in known:
            raise Unprocessable(f"a release has no setting {name}", hint=f"Known are {', '.join(known)}.")
    return found


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Unprocessable(f"{option} {text}: it is written {option} NAME=VALUE")
    return name, value


def _put(into: dict[str, object], path: list[str], value: object, name: str) -> None:
    for part in path[:-1]:
        inner = into.setdefault(part, {})
        if not isinstance(inner, dict):
            raise Unprocessable(f"--set {name}: {part} has a value already, and no settings in it")
        into = inner
    into[path[-1]] = value


def source_words(release: Release) -> str:
    match release.source:
        case EnvironmentSource(path=path, package=package):
            return package or path
        case CommandSource(argv=argv):
            return shlex.join(argv)
        case ImageSource(image=image):
            return image
        case EndpointSource(url=url, model=model):
            return f"{url} {model}".rstrip()
        case PackageSource():
            return "this package"
