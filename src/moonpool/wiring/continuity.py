"""What the gateway gives when a service is down: its fallback's answer, and the dead letters that bring the
real one later."""

from collections.abc import Sequence
from typing import cast

from moonpool.balancing.pools import Pools
from moonpool.contracts.config import SERVICES
from moonpool.contracts.fallback import Fallback, FallbackParts, MakeFallback
from moonpool.contracts.manifest import Manifest, Route
from moonpool.core.component import Component
from moonpool.core.handler import Handler
from moonpool.gateway.app import Upstream
from moonpool.gateway.dead_letters import DeadLetterRoutes
from moonpool.gateway.fallbacks import FallbackAdministration
from moonpool.gateway.replaying import Replayer
from moonpool.middleware.causes import HALF_LIFE, Causes
from moonpool.middleware.dead_letter import DeadLetter
from moonpool.middleware.deferring import Deferring
from moonpool.middleware.fallback import FallbackFilter
from moonpool.middleware.last_known import LastKnownMemory
from moonpool.middleware.letter_replay import Replays
from moonpool.middleware.letter_worker import LetterWorker
from moonpool.middleware.pipeline import RouteFilter
from moonpool.wiring.adapters import open_dead_letters
from moonpool.wiring.clients import ChainedInferenceClient
from moonpool.wiring.inference import InferencePath
from moonpool.wiring.infrastructure import Infrastructure
from moonpool.wiring.registry import resolve
from moonpool.wiring.settings import ModuleSettings


class Continuity:
    def __init__(
        self,
        settings: ModuleSettings,
        infrastructure: Infrastructure,
        manifests: Sequence[Manifest],
        replayed: Sequence[RouteFilter],
        upstream: Upstream,
        inference: InferencePath,
    ) -> None:
        clock, log, pools = infrastructure.clock, infrastructure.log, infrastructure.pools
        self.letters = open_dead_letters(infrastructure.data, settings.secrets.own["spool"])
        self.causes, known = Causes(clock), LastKnownMemory(clock)
        self._replayer = replayer = Replayer(
            manifests=manifests, filters=replayed, upstream=upstream, clock=clock
        )
        replays = Replays(self.letters, replayer, clock, infrastructure.random, log)
        worker = LetterWorker(
            self.letters,
            replays,
            lambda: _away(pools),
            clock,
            log,
            paid=lambda note: note.service == "inference",
            off=replayer.off,
        )
        self.hand_back = worker.drain
        deferring = Deferring(self.letters, self.causes, clock, log, wake=worker.wake)
        self._models = ChainedInferenceClient(
            _models(manifests), inference.filters, inference.upstream, clock
        )
        parts = FallbackParts(
            known=known,
            later=deferring,
            config=infrastructure.config,
            clock=clock,
            inference=self._models,
        )
        fallbacks: dict[str, Fallback] = {
            manifest.service: cast(MakeFallback, resolve(manifest.fallback))(parts)
            for manifest in manifests
            if manifest.fallback
        }
        self.dead_letter: RouteFilter = DeadLetter(deferring)
        self.fallback: RouteFilter = FallbackFilter(fallbacks, known, self.causes, log)
        self.routes: list[tuple[Route, Handler]] = [
            *DeadLetterRoutes(self.letters, replays).routes(),
            *FallbackAdministration(self.causes, HALF_LIFE).routes(),
        ]
        self.components: list[Component] = [self.letters, worker]

    def update(self, manifests: Sequence[Manifest]) -> None:
        """For what is sent from now on."""
        self._replayer.update(manifests)
        self._models.update(_models(manifests))


def _models(manifests: Sequence[Manifest]) -> Manifest:
    return next(manifest for manifest in manifests if manifest.service == "inference")


def states(pools: Pools) -> dict[str, str]:
    """Of every service's best instance."""
    found = {}
    for service in SERVICES:
        endpoints = pools.endpoints(service)
        found[service] = "ready" if any(e.ready for e in endpoints) else "down" if endpoints else "missing"
    return found


def _away(pools: Pools) -> list[str]:
    """Services that nobody can be sent to. Models may be elsewhere: inference is never away."""
    return [name for name, state in states(pools).items() if state != "ready" and name != "inference"]
