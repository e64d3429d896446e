"""How upgrades are drawn: the way with where it is, both releases side by side, the verdict so far."""

import time
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moonpool.cli.moments import TO_THE_SECOND, spell_moment
from moonpool.contracts.upgrades import (
    EventView,
    ExperimentView,
    MetricView,
    Side,
    UpgradeView,
    VerdictView,
)

STYLES = {
    "done": "green",
    "rolled_back": "red",
    "rolling_back": "red",
    "paused": "yellow",
    "fine": "green",
    "better": "green",
    "same": "green",
    "worse": "red",
    "invalid": "red",
    "undecided": "yellow",
}
RATES = frozenset({"errors", "departures"})
FORMS = {"tokens": "{:.1f}", "cost": "{:.4g}"}
NAMES = {"cost": "cost of a million tokens", "tokens": "tokens an answer"}


def upgrades_table(views: Sequence[UpgradeView]) -> Table:
    table = _table("upgrade", "service", "strategy", "from", "to", "phase", "weight", "started", "why")
    for one in views:
        table.add_row(
            one.id,
            one.service,
            one.strategy,
            one.old.release,
            one.new.release,
            _phase(one),
            f"{one.new.weight:g} %" if one.ended_at is None else "",
            _when(one.started_at),
            Text(one.reason),
        )
    return table


def upgrade_text(view: UpgradeView) -> RenderableType:
    title = Text.assemble(
        (f"{view.service}: {view.old.release} → {view.new.release}", "bold"),
        f"  {view.strategy}  ",
        _phase(view),
        (f"  {view.id}", "dim"),
    )
    parts: list[RenderableType] = [title, _path(view), _sides((view.old, view.new))]
    if view.verdict.metrics and view.verdict.kind != "no_data":
        parts.append(_metrics(view.verdict))
    parts.append(Text.assemble("verdict so far: ", _styled(view.verdict.kind), f"  {view.verdict.reason}"))
    if view.reason:
        parts.append(Text(f"here because: {view.reason}"))
    if view.waiting_for:
        parts.append(Text(f"waits for: {view.waiting_for}", "cyan"))
    return Group(*parts)


def experiment_text(found: ExperimentView) -> RenderableType:
    state = "running" if found.running else "ended"
    title = Text.assemble(
        (f"{found.service}: {found.old.release} against {found.new.release}", "bold"),
        f"  {found.split:g} % to {found.new.release}, {state}, {found.seconds / 60:.0f} min, "
        f"{found.exposed} requests",
    )
    verdict = Text.assemble("verdict: ", _styled(found.verdict.kind), f"  {found.verdict.reason}")
    parts: list[RenderableType] = [title, _sides((found.old, found.new)), _metrics(found.verdict), verdict]
    return Group(*parts, Text(found.reason, "bold"))


def history_lines(entries: Iterable[EventView]) -> list[str]:
    lines = []
    for one in entries:
        why = f": {one.why}" if one.why else ""
        lines.append(f"{_when(one.at)}  {one.service}  {one.what}{why}  ({one.who}, {one.upgrade})")
        if one.evidence:
            lines.append("    " + "; ".join(f"{name}: {value}" for name, value in one.evidence.items()))
    return lines


def _path(view: UpgradeView) -> Text:
    marks = {"past": ("✓ ", "green"), "now": ("● ", "bold cyan"), "ahead": ("○ ", "dim")}
    text = Text()
    for place, stop in enumerate(view.path):
        mark, style = marks[stop.state]
        text.append(" ─ " if place else "", "dim")
        text.append(mark + stop.title, style)
    return text


def _sides(sides: tuple[Side, Side]) -> Table:
    table = _table("", *(side.release for side in sides))
    numbers = [side.numbers for side in sides]
    table.add_row("weight", *(f"{side.weight:g} %" for side in sides))
    if any(side.replicas for side in sides):
        table.add_row("ready", *(f"{side.ready} of {side.replicas}" for side in sides))
    table.add_row("requests", *(f"{one.requests} ({one.per_second:g}/s)" for one in numbers))
    rates = [None if one.error_rate is None else f"{one.errors} ({one.error_rate:.2%})" for one in numbers]
    table.add_row("errors", *(rate or "-" for rate in rates))
    for name, field in (("time", "seconds"), ("first token", "first_token"), ("token gap", "gap")):
        cells = [_times(getattr(one, f"{field}_p50"), getattr(one, f"{field}_p95")) for one in numbers]
        if any(cell != "-" for cell in cells):
            table.add_row(f"{name} p50 · p95", *cells)
    if any(one.tokens for one in numbers):
        prices = [one.cost_per_million for one in numbers]
        table.add_row("a million tokens", *("no price" if one is None else f"{one:.4g}" for one in prices))
    return table


def _metrics(verdict: VerdictView) -> Table:
    table = _table("compared", "old", "new", "effect", "interval", "p", "")
    for one in verdict.metrics:
        if one.old is None and one.new is None and not one.note:
            continue
        interval = "-" if one.low is None else f"{_effect(one, one.low)} … {_effect(one, one.high)}"
        table.add_row(
            NAMES.get(one.name, one.name),
            _value(one, one.old),
            _value(one, one.new),
            _effect(one, one.effect),
            interval,
            "-" if one.p is None or one.note else f"{one.p:.2g}",
            Text(one.note) if one.note else _styled(one.verdict),
        )
    return table


def _value(metric: MetricView, value: float | None) -> str:
    if value is None:
        return "-"
    if metric.name in RATES:
        return f"{value:.2%}"
    form = FORMS.get(metric.name)
    return form.format(value) if form else _milliseconds(value)


def _effect(metric: MetricView, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 100:+.2f} points" if metric.name in RATES else f"{value:+.1%}"


def _times(median: float | None, high: float | None) -> str:
    if median is None or high is None:
        return "-"
    return f"{_milliseconds(median)} · {_milliseconds(high)}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def _phase(view: UpgradeView) -> Text:
    label = view.phase.replace("_", " ")
    if view.phase == "canary" and view.steps:
        label = f"{label} {view.step + 1} of {view.steps}"
    if view.outcome and view.outcome not in ("promoted", view.phase):
        label = f"{label} ({view.outcome.replace('_', ' ')})"
    return Text(label, STYLES.get(view.phase, "cyan"))


def _styled(word: str) -> Text:
    return Text(word.replace("_", " "), STYLES.get(word, ""))


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading)
    return table


def _when(moment: float) -> str:
    day = "%Y-%m-%d"
    today = spell_moment(moment, day) == spell_moment(time.time(), day)
    return spell_moment(moment, "%H:%M:%S" if today else TO_THE_SECOND)
