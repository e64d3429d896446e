"""From a model's alias to the endpoints that can answer for it.

A target is either the platform's own inference service (its instances come from the pools) or an
external OpenAI-compatible endpoint, which has one Endpoint for as long as the target exists. A release of
the inference service may be such an endpoint, too: it is one of the service's instances then.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.pools import Pools
from moonpool.balancing.services import by_release
from moonpool.balancing.tiers import Candidate, Tier
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.contracts.usage import TokenPrice
from moonpool.core.errors import BadRequest, NotFound, Unavailable
from moonpool.http.address import Address

INFERENCE = "inference"


class Models:
    """Resolution is a dictionary look-up; tiers are made when the catalogue changes."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._models: dict[str, Model] = {}
        self._tiers: dict[str, list[list[Target]]] = {}
        self._external: dict[Target, Endpoint] = {}
        self._resolved: dict[tuple[str, str], Sequence[Tier]] = {}
        self._chains: dict[tuple[str, tuple[str, ...], str], Sequence[Tier]] = {}
        self._resolved_for = -1
        self.version = -1
        self.prices: Mapping[str, TokenPrice] = {}
        """Of the aliases that cost something. Replaced as a whole, never changed."""

    def update(self, catalogue: Catalogue) -> None:
        """External endpoints whose target is unchanged keep their state.

        Raises ValueError for a target's URL that is none, and then changes nothing.
        """
        external = {
            target: self._external.get(target) or _endpoint(target)
            for model in catalogue.models
            for target in model.targets
            if target.url
        }
        self.version = catalogue.version
        prices = {model.id: model.price for model in catalogue.models if model.price is not None}
        if prices != self.prices:
            self.prices = prices
        self._models = {model.id: model for model in catalogue.models}
        self._resolved_for = -1
        self._tiers = {model.id: _tiers(model) for model in catalogue.models}
        self._external = external

    def externals(self) -> Iterable[Endpoint]:
        """The external endpoints of all targets."""
        return self._external.values()

    def get(self, alias: str, capability: str) -> Model:
        """Raises NotFound for an unknown alias, BadRequest for one that lacks the capability, Unavailable
        as long as no catalogue was seen at all."""
        model = self._models.get(alias)
        if model is None:
            if self.version < 0:
                raise Unavailable("the catalogue of models is not there yet", retry_after=1.0)
            raise NotFound(
                f"The model `{alias}` does not exist or you do not have access to it.",
                code="model_not_found",
                param="model",
                hint="GET /v1/models lists the models there are.",
            )
        if capability not in model.capabilities:
            raise BadRequest(
                f"The model `{alias}` does not offer {capability}.",
                code="unsupported_capability",
                param="model",
                hint=f"It offers {', '.join(model.capabilities)}.",
            )
        return model

    def tiers(self, alias: str, release: str = "") -> Sequence[Tier]:
        """By rising priority, our own instances of `release` before those of others ("": all alike); then
        those of the aliases that may answer instead. Without tiers that have no endpoint. Not to be changed.
        """
        self._refresh()
        tiers = self._resolved.get((alias, release))
        if tiers is None:
            model = self._models.get(alias)
            names = (alias, *(model.fallbacks if model is not None else ()))
            tiers = self._resolved[alias, release] = self._of(names, release)
        return tiers

    def chain(self, alias: str, others: tuple[str, ...], release: str = "") -> Sequence[Tier]:
        """The tiers of `others` only: for a failure that has a chain of its own."""
        self._refresh()
        key = (alias, others, release)
        tiers = self._chains.get(key)
        if tiers is None:
            tiers = self._chains[key] = self._of(others, release)
        return tiers

    def model(self, alias: str) -> Model | None:
        return self._models.get(alias)

    def _refresh(self) -> None:
        if self._resolved_for != self._pools.version:
            self._resolved_for = self._pools.version
            self._resolved = {}
            self._chains = {}

    def _of(self, aliases: Sequence[str], release: str) -> Sequence[Tier]:
        return [tier for alias in dict.fromkeys(aliases) for tier in self._resolve(alias, release)]

    def _resolve(self, alias: str, release: str) -> Iterator[Tier]:
        model = self._models.get(alias)
        if model is None:
            return
        for number, targets in enumerate(self._tiers[alias]):
            external = [Candidate(self._external[target], target) for target in targets if target.url]
            local = [target for target in targets if not target.url]
            name = f"{alias}/{number}"
            groups = list(by_release(self._inference(release), INFERENCE, release)) if local else []
            first = [one for _, group in groups[:1] for one in self._candidates(group, local)]
            if first or external:
                yield Tier(name, first + external, alias, model.context)
            for label, group in groups[1:]:
                yield Tier(f"{name} {label}", self._candidates(group, local), alias, model.context)

    def _inference(self, release: str) -> Sequence[Endpoint]:
        """Prompts leave the house for a release that was chosen, or when nobody in it is ready: not because
        such a release has been started."""
        there = self._pools.endpoints(INFERENCE)
        inside = [endpoint for endpoint in there if endpoint.internal]
        chosen = bool(release) or not any(endpoint.ready for endpoint in inside)
        return there if chosen else inside

    def _candidates(self, endpoints: Sequence[Endpoint], targets: Sequence[Target]) -> list[Candidate]:
        return [
            Candidate(endpoint, self._pools.target(endpoint) or target)
            for endpoint in endpoints
            for target in targets
        ]


def _tiers(model: Model) -> list[list[Target]]:
    priorities = sorted({target.priority for target in model.targets})
    return [[t for t in model.targets if t.priority == priority] for priority in priorities]


def _endpoint(target: Target) -> Endpoint:
    return Endpoint(
        Address.parse(target.url),
        instance=target.id,
        release="external",
        internal=False,
        weight=target.weight,
    )
