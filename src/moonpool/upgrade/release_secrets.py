"""What in a release looks like a secret. Releases are documents, which every operator can read and which stay
in the history. Pure."""

import re
from collections.abc import Iterator

from moonpool.contracts.releases import CommandSource, EndpointSource, Release
from moonpool.upgrade.faults import Fault

_NAME = re.compile(r"(?:^|[_-])(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$", re.IGNORECASE)
_IN_URL = re.compile(r"://[^/?#@\s]*:[^/?#@\s]+@")
"""RFC 3986 section 3.2.1: user information with a password."""
_QUERY = re.compile(r"[?&][\w.-]*(?:key|token|secret|password)=", re.IGNORECASE)
_HINT = "Set it in the platform's environment; the list of releases is no place for secrets."


def secrets_in(release: Release) -> Iterator[Fault]:
    """The places, never what stands there."""
    for name, value in release.overrides.environment.items():
        if _NAME.search(name) or _in_url(value):
            yield Fault(f"overrides.environment.{name}", "looks like a secret", _HINT)
    for alias, model in release.overrides.models.items():
        for index, target in enumerate(model.targets):
            if _in_url(target.url):
                place = f'overrides.models."{alias}".targets[{index}].url'
                yield Fault(place, "looks like a secret", "Name a variable in `api_key_env`.")
    match release.source:
        case EndpointSource(url=url) if _in_url(url):
            yield Fault("source.url", "looks like a secret", "Name a variable in `api_key_env`.")
        case CommandSource(argv=argv):
            yield from _in_words(argv)


def _in_words(argv: tuple[str, ...]) -> Iterator[Fault]:
    """`--token=…`, `--token …` and URLs with a password; a file that holds the secret may be named."""
    for index, word in enumerate(argv):
        option, equals, value = word.partition("=")
        if not equals and index + 1 < len(argv):
            value = argv[index + 1]
        told = option.startswith("-") and _NAME.search(option) is not None
        if (told and value and value[0] not in "-/.{") or _in_url(word):
            yield Fault(f"source.argv[{index}]", "looks like a secret", _HINT)


def _in_url(text: str) -> bool:
    return "://" in text and (_IN_URL.search(text) or _QUERY.search(text)) is not None
