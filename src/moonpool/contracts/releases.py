"""Releases: immutable versions of a module, several of which run side by side.

A release says where its program comes from and which settings it runs with. What becomes of it over time
(`ReleaseState`) stands beside it in the list, never in it: `digest` covers all that a release is, so
that a label can never come to mean something else.

    registered ──► starting ──► serving ◄──► standby ──► draining ──► stopped ──► starting …
                       └──────► failed

What was added of a module is a document of the config server (`releases/SERVICE`, ServiceReleases); the
supervisor follows it and keeps all of them in its own list (ReleaseList). upgrade/release.py has the rules of
releases, upgrade/release_documents.py those of the documents.
"""

from enum import StrEnum
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta

from moonpool.contracts.config import SERVICES, EngineConfig, LimitConfig, ModelConfig, PositiveInt
from moonpool.contracts.manifest import Manifest
from moonpool.contracts.money import PriceConfig, token_price
from moonpool.contracts.names import END
from moonpool.contracts.usage import TokenPrice

GATEWAY = "gateway"
MODULES = (*SERVICES, GATEWAY)
"""What can have releases."""
LABEL = r"^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?" + END
Label = Annotated[str, Meta(pattern=LABEL)]
"""Lower case, digits, dot, dash and underscore between; at most 63 characters: it is part of file names,
header values, metric labels and, elsewhere, of Kubernetes labels."""
FIRST = "v1"
"""The label of what runs when no release was ever added: this package as it is configured."""
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}" + END)]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]


class PackageSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="package"):
    """The package that the platform itself runs from; only the settings differ."""


class EnvironmentSource(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="venv"
):
    """Another virtual environment. `path` is its folder; `package` what it was built from (a wheel with
    its SHA-256, or a requirement), "" for one that was there already."""

    path: Text
    package: str = ""
    sha256: str = ""


class CommandSource(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="command"
):
    """Any program that serves HTTP/1.1 on the listening socket it inherits (systemd's convention:
    `LISTEN_FDS`, sd_listen_fds(3)) and answers `GET ready_path` with 2xx when it is ready."""

    argv: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=256)]
    folder: str = ""
    ready_path: Annotated[str, Meta(pattern=r"^/")] = "/readyz"


class ImageSource(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="image"
):
    """A container image, by digest where its registry must not be able to change it."""

    image: Text


class EndpointSource(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="endpoint"
):
    """An OpenAI-compatible endpoint that somebody else runs; for the inference service only.

    `url` ends where paths like `/chat/completions` begin; `model` is the name there ("": as it was asked
    for). `api_key_env` names an environment variable of the gateway. `price` is what it takes for its tokens,
    by which upgrades compare it; clients pay what their model's alias costs. Unset, it is no part of the
    digest.
    """

    url: Annotated[str, Meta(pattern=r"^https?://")]
    model: str = ""
    api_key_env: str = ""
    price: PriceConfig | msgspec.UnsetType = msgspec.UNSET


Source = PackageSource | EnvironmentSource | CommandSource | ImageSource | EndpointSource


class Overrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the platform's configuration this release has otherwise; None or empty: nothing.

    `models` and `limits` replace entries of the same name. `environment` is added to the process's own:
    it is no place for secrets, the list of releases is shown to every operator.
    """

    instances: PositiveInt | None = None
    models: dict[str, ModelConfig] = {}
    limits: dict[str, LimitConfig] = {}
    engine: EngineConfig | None = None
    environment: dict[Variable, str] = {}
    drain_timeout: Annotated[float, Meta(ge=0)] | None = None


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`created` is Unix seconds, `by` who added it. `manifest` is what this release declares about its
    routes and policies; None: as this package has it. `digest` is made by `sealed`."""

    service: str
    label: Label
    source: Source = PackageSource()
    overrides: Overrides = Overrides()
    manifest: Manifest | None = None
    created: float = 0.0
    by: str = ""
    note: Annotated[str, Meta(max_length=1000)] = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """As it is shown everywhere: `inference@v2`."""
        return f"{self.service}@{self.label}"


class ReleaseState(StrEnum):
    """`serving` has a share of the traffic; `standby` runs without one (an old release in its window, a
    shadow). `failed` ended by itself more often than it is given chances."""

    REGISTERED = "registered"
    STARTING = "starting"
    SERVING = "serving"
    STANDBY = "standby"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


RUNNING = frozenset(
    {ReleaseState.STARTING, ReleaseState.SERVING, ReleaseState.STANDBY, ReleaseState.DRAINING}
)
"""States in which processes may be there."""


class ListedRelease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`since` is Unix seconds of the last change of state, `reason` why it is in it."""

    release: Release
    state: ReleaseState = ReleaseState.REGISTERED
    since: float = 0.0
    reason: str = ""


class ReleaseList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the supervisor knows: all releases that were added and not removed, oldest first."""

    releases: tuple[ListedRelease, ...] = ()


class ServiceReleases(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The document `releases/SERVICE`: what was added of one module and not removed, by label."""

    service: str
    releases: Annotated[dict[str, Release], Meta(max_length=256)] = {}


def digest_of(release: Release) -> str:
    """SHA-256 (hex) over what the release is: not over its label, who added it, when, and why."""
    what = (release.service, release.source, release.overrides, release.manifest)
    return sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()


def prices_of(release: Release) -> dict[str, TokenPrice]:
    """What its tokens cost by its own word, by alias ("": any). Raises ValueError for one that cannot be."""
    source = release.source
    if isinstance(source, EndpointSource):
        told = {"": None if source.price is msgspec.UNSET else source.price}
    else:
        told = {alias: model.price for alias, model in release.overrides.models.items()}
    found = {alias: token_price(price) for alias, price in told.items()}
    return {alias: price for alias, price in found.items() if price is not None}


def sealed(release: Release) -> Release:
    """The release with its digest."""
    return msgspec.structs.replace(release, digest=digest_of(release))
