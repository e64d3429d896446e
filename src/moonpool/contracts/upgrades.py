"""What people and programs say to the upgrade manager, and what it tells them.

Weights are percent of a service's traffic here, for people; inside they are basis points
(contracts/routing.py). Times are Unix seconds, spans are seconds.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from moonpool.contracts.releases import Label
from moonpool.contracts.routing import Unit

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=30 * 86_400)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Strategy(StrEnum):
    ROLLING = "rolling"
    """Instance by instance: one new beside the old, then one old less."""
    BLUE_GREEN = "blue-green"
    """All new beside all old, one switch; the old stay for the window."""
    CANARY = "canary"
    """A growing share, each step held to the evidence."""
    AB = "ab"
    """A fixed split until a person concludes it (or the evidence, when the plan says so)."""
    SHADOW = "shadow"
    """Copies of requests whose answers nobody sees; then the new release goes again."""


class Phase(StrEnum):
    """The states of an upgrade; upgrade/machine.py draws the ways between them."""

    PREFLIGHT = "preflight"
    STAGE = "stage"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTE = "promote"
    DRAIN = "drain"
    OBSERVE = "observe"
    PAUSED = "paused"
    ROLLING_BACK = "rolling_back"
    WITHDRAWING = "withdrawing"
    """The new release goes, since all was learned that was asked: after a shadow."""
    DONE = "done"
    ROLLED_BACK = "rolled_back"


ENDED = frozenset({Phase.DONE, Phase.ROLLED_BACK})


class StepPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One canary step. What it leaves out is the plan's; `replicas` 0: as many as the weight needs."""

    weight: Percent
    soak_seconds: Seconds | None = None
    minimum_sample: Count | None = None
    replicas: Count = 0


class ShadowPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`percent` of the requests are copied to the new release for at least `seconds`."""

    percent: Percent = 10.0
    seconds: Seconds = 60.0
    minimum_sample: Count | None = None


class AnalysisPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How new is compared with old. `alpha` is the chance of a false alarm over the whole upgrade, however
    often one looks; the margins are how much worse the new release may be before that counts: points of
    error rate (0.005: half a percent), and relative for times and cost (0.1: a tenth)."""

    enabled: bool = True
    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05
    error_margin: Share = 0.0
    first_token_margin: Annotated[float, msgspec.Meta(ge=0)] = 0.1
    gap_margin: Annotated[float, msgspec.Meta(ge=0)] = 0.1
    cost_margin: Annotated[float, msgspec.Meta(ge=0)] = 0.1


class HardLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Beyond these the new release goes at once, without any comparison. None: not limited.

    Rates and times are of the last `over_seconds`, with at least `sample` requests in them.
    """

    error_rate: Share | None = 0.25
    first_token_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    gap_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    over_seconds: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 10.0
    sample: Annotated[int, msgspec.Meta(ge=1)] = 20
    restarts: Annotated[int, msgspec.Meta(ge=1)] = 3
    """So many ends of its processes are a crash loop."""
    ready_seconds: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """By then what is started must be ready. A large model takes minutes."""
    unready_seconds: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    """For so long too few of its instances may be ready (a restart); the share shrinks meanwhile."""


class UpgradePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The plan file. Every field has a default, so that no file is needed."""

    strategy: Strategy = Strategy.CANARY
    steps: tuple[StepPlan | Percent, ...] = (1.0, 5.0, 25.0, 50.0)
    """Of a canary: weights in percent, rising, below 100; promotion follows by itself."""
    soak_seconds: Seconds | None = None
    """How long a step holds at least, from when its weight is in effect; None: 60 s, of rolling 5 s."""
    minimum_sample: Count | None = None
    """Requests that the new release must have ended in a step; None: 50, of rolling none."""
    patience_seconds: Seconds = 900.0
    """After so long without the minimum sample the upgrade pauses: no data is no evidence."""
    shadow: ShadowPlan | None = None
    """Shadow before the canary; of the strategy `shadow` all there is."""
    split: Annotated[float, msgspec.Meta(gt=0, lt=100)] = 50.0
    """Of an ab experiment: the new release's percent."""
    conclude: bool = False
    """Whether an ab experiment ends by itself as soon as its effect is significant."""
    analysis: AnalysisPlan = AnalysisPlan()
    limits: HardLimits = HardLimits()
    unit: Unit | None = None
    """What is assigned to a release as one; None: of ab a user, of the others a request (conversations stay
    with their release all the same), since the users of a small platform are no share of anything."""
    pin_conversations: bool = False
    """Whether a conversation stays with the release that began it also when users are what is assigned."""
    replicas: Count = 0
    """Of the new release in the end; 0: as many as the old has."""
    keep_old_seconds: Seconds | None = None
    """The window in which everything goes to the new release and the old one still stands by; None: 60 s for
    blue-green, nothing for the others."""
    observe_seconds: Seconds = 10.0
    """How long the new release is watched when it is alone; until then a rollback is automatic."""


class StartUpgrade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/upgrades. `dry_run` answers what would happen, and changes nothing."""

    service: str
    to: Label
    plan: UpgradePlan = UpgradePlan()
    reason: str = ""
    dry_run: bool = False


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of what a person tells an upgrade that runs."""

    reason: str = ""


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one release. None: nothing of it was."""

    requests: int = 0
    errors: int = 0
    per_second: float = 0.0
    error_rate: float | None = None
    seconds_p50: float | None = None
    seconds_p95: float | None = None
    first_token_p50: float | None = None
    first_token_p95: float | None = None
    gap_p50: float | None = None
    gap_p95: float | None = None
    tokens: int = 0
    """Of prompts and answers."""
    cost_per_million: float | None = None
    """What a million of them cost, in the currency. None: no price is known."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One release of the two. `weight` in percent, as the router has it."""

    release: str
    weight: float = 0.0
    replicas: int = 0
    ready: int = 0
    numbers: Numbers = Numbers()


class MetricView(msgspec.Struct, frozen=True, kw_only=True):
    """One measure compared: new minus old (rates), or new by old minus one (times, cost)."""

    name: str
    old: float | None = None
    new: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    verdict: str = ""
    note: str = ""
    """What there is to know about it beyond numbers: why it is not compared."""


class VerdictView(msgspec.Struct, frozen=True, kw_only=True):
    """`kind`: no_data, undecided, fine, better, worse or invalid."""

    kind: str = "no_data"
    reason: str = ""
    metrics: tuple[MetricView, ...] = ()


class PhaseView(msgspec.Struct, frozen=True, kw_only=True):
    """One stop on the way, for those who draw it. `state`: past, now or ahead."""

    title: str
    state: str


class UpgradeView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    service: str
    strategy: str
    phase: str
    outcome: str
    """"" while it runs; then promoted, compared, kept_old or rolled_back."""
    step: int
    steps: int
    reason: str
    """Why it is where it is."""
    waiting_for: str
    """What has to be so for it to go on; "" when it has ended."""
    old: Side
    new: Side
    verdict: VerdictView
    path: tuple[PhaseView, ...]
    started_by: str
    started_at: float
    since: float
    """When the current phase or step began."""
    ended_at: float | None = None
    plan: UpgradePlan = UpgradePlan()
    version: int = 0


class UpgradePage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[UpgradeView]
    has_more: bool = False
    object: str = "list"


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the history: who did what, why, and the evidence there was."""

    id: str
    upgrade: str
    service: str
    at: float
    who: str
    what: str
    why: str = ""
    evidence: dict[str, str] = {}


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[EventView]
    has_more: bool = False
    object: str = "list"


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a dry run: what would happen, line by line."""

    service: str
    old: str
    new: str
    strategy: str
    steps: tuple[str, ...]
    plan: UpgradePlan


class ExperimentView(msgspec.Struct, frozen=True, kw_only=True):
    """How the two releases of an upgrade compared: the result page of an experiment."""

    upgrade: str
    service: str
    running: bool
    seconds: float
    split: float
    """The new release's percent."""
    exposed: int
    """Requests of both releases."""
    old: Side
    new: Side
    verdict: VerdictView
    recommendation: str
    """promote, keep, either, wait or discard; `reason` says why, `more` how many requests would decide."""
    reason: str
    more: int | None = None


class ReleaseView(msgspec.Struct, frozen=True, kw_only=True):
    """A release, and what of it runs. `source`: package, venv, command, image or endpoint."""

    service: str
    label: str
    source: str
    note: str = ""
    created: float = 0.0
    by: str = ""
    digest: str = ""
    replicas: int = 0
    ready: int = 0


class ReleasePage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[ReleaseView]
    has_more: bool = False
    object: str = "list"
