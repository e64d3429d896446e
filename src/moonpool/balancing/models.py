"""From a model's alias to the endpoints that can answer for it.

A target is either the platform's own inference service (its instances come from the pools) or an
external OpenAI-compatible endpoint, which has one Endpoint for as long as the target exists.
"""

from typing import NamedTuple

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.pools import Pools
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.core.errors import BadRequest, NotFound, Unavailable
from moonpool.http.address import Address

INFERENCE = "inference"


class Candidate(NamedTuple):
    endpoint: Endpoint
    target: Target


class Models:
    """Resolution is a dictionary look-up; tiers are made when the catalogue changes."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._models: dict[str, Model] = {}
        self._tiers: dict[str, list[list[Target]]] = {}
        self._external: dict[Target, Endpoint] = {}
        self._resolved: dict[str, list[list[Candidate]]] = {}
        self._resolved_for = -1
        self.version = -1

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
        self._models = {model.id: model for model in catalogue.models}
        self._tiers = {model.id: _tiers(model) for model in catalogue.models}
        self._resolved = {}
        self._external = external

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

    def tiers(self, alias: str) -> list[list[Candidate]]:
        """Candidates by rising priority; a tier without any endpoint is left out. Not to be changed."""
        if self._resolved_for != self._pools.version:
            self._resolved_for = self._pools.version
            self._resolved = {}
        tiers = self._resolved.get(alias)
        if tiers is None:
            tiers = self._resolved[alias] = self._resolve(alias)
        return tiers

    def _resolve(self, alias: str) -> list[list[Candidate]]:
        tiers = []
        for targets in self._tiers.get(alias, ()):
            candidates = [candidate for target in targets for candidate in self._candidates(target)]
            if candidates:
                tiers.append(candidates)
        return tiers

    def _candidates(self, target: Target) -> list[Candidate]:
        if target.url:
            return [Candidate(self._external[target], target)]
        return [Candidate(endpoint, target) for endpoint in self._pools.endpoints(INFERENCE)]


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
