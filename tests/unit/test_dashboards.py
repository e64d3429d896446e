"""The dashboard, the alerts and the page on observability speak of metrics that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from moonpool.balancing.endpoint import Endpoint
from moonpool.core.clock import ManualClock
from moonpool.http.address import Address
from moonpool.middleware import watching
from moonpool.middleware.causes import Cause, Causes
from moonpool.middleware.gauges import Gauges
from moonpool.middleware.loop_lag import LoopLag
from moonpool.middleware.metrics import RequestMetrics
from moonpool.middleware.verdicts import Verdicts
from moonpool.services.inference.metrics import LoadCollector, TokenCounter

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/dashboards/moonpool-gateway.json").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())
ADDED = frozenset({"instance", "module", "le"})
"""Labels that scraping and histograms add."""
SOURCES = ROOT / "src/moonpool"


def registry() -> CollectorRegistry:
    """Everything that the gateway and the engine tell, with one value of each."""
    clock, gauges, causes, verdicts = ManualClock(), Gauges(), Causes(ManualClock()), Verdicts()
    endpoint = Endpoint(Address.parse("unix:/x"), instance="chat-0", release="v1")
    watching.watch_endpoints(gauges, lambda: {"chat": [endpoint]}, clock)
    watching.watch_breakers(gauges, SimpleNamespace(states=lambda now: {"chat-0": "open"}), clock)
    watching.watch_budget(gauges, SimpleNamespace(denied=0, available=lambda now: 1.0), clock)
    causes.note(Cause("stale", "chat", "GET /", "connect_failed"))
    watching.watch_causes(gauges, causes)
    verdicts.count(SimpleNamespace(decisions=[("cache", "hit", "", 0.0)]))  # type: ignore[arg-type]
    watching.watch_verdicts(gauges, verdicts)
    watching.watch_journal(gauges, lambda: True, lambda: 0)
    watching.watch_letters(gauges, lambda: {"dead": 0.0})
    watching.watch_cache(gauges, lambda: 0, lambda: 0)
    watching.watch_limits(gauges, lambda: True)
    watching.watch_spans(gauges, SimpleNamespace(exported=0, dropped=0))  # type: ignore[arg-type]
    requests = RequestMetrics()
    requests.finished("/", "v1", 200, 0.1)
    requests.first_byte("/", "v1", 0.1)
    requests.gaps("/", "v1").observe(0.1)
    requests.flagged("UH")
    made = CollectorRegistry()
    load = SimpleNamespace(running=0, waiting=0, slots=1, prefill_rate=0, decode_rate=0)
    for collector in (gauges, requests, LoopLag(), LoadCollector(lambda: {"m": load})):  # type: ignore[dict-item]
        made.register(collector)
    usage = SimpleNamespace(prompt_tokens=1, cached_tokens=0, completion_tokens=1)
    TokenCounter(made)(SimpleNamespace(name="m"), SimpleNamespace(usage=usage))  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Labels by sample name."""
    names: dict[str, set[str]] = {}
    for family in registry().collect():
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    # One that needs a service's whole application to be made: it is in the source under this name.
    assert '"moonpool_billing_lag_events"' in (SOURCES / "services/billing/counting.py").read_text()
    names["moonpool_billing_lag_events"] = set()
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                names[rule["record"]] = set()
    return names


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", ())


def expressions() -> list[str]:
    found = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    found += [v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    found += [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    return found


SELECTOR = re.compile(r"\b(moonpool[_:][a-zA-Z0-9_:]+)(\{[^}]*\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')


@pytest.mark.parametrize("expression", expressions())
def test_an_expressions_metrics_and_labels_are_there(known: dict[str, set[str]], expression: str) -> None:
    selectors = SELECTOR.findall(expression)
    assert selectors
    for name, matchers in selectors:
        assert name in known, f"nothing is called {name}"
        for label in MATCHER.findall(matchers):
            assert label in known[name] | ADDED, f"{name} has no label {label}"
    for grouping in re.findall(r"\bby \(([^)]*)\)", expression):
        there = set().union(*(known[name] for name, _ in selectors)) | ADDED
        assert {label.strip() for label in grouping.split(",")} <= there
    assert expression.count("(") == expression.count(")")


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    assert DASHBOARD["title"]
    assert DASHBOARD["uid"]
    assert DASHBOARD["id"] is None  # of another installation otherwise
    assert DASHBOARD["schemaVersion"] >= 38  # Grafana 10
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    occupied: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & occupied, f"{panel['title']} lies on another panel"
        occupied |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(references) == len(set(references))
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD["panels"])))
    assert used <= variables


def test_the_alerts_say_what_to_do() -> None:
    names = []
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert ("record" in rule) != ("alert" in rule)
            if "alert" in rule:
                names.append((rule["alert"], rule["labels"].get("window")))
                assert rule["labels"]["severity"] in {"page", "ticket", "info"}
                assert rule["annotations"]["summary"]
                assert rule["annotations"]["description"]
    assert len(names) == len(set(names))


def test_burn_rates_look_through_two_windows() -> None:
    burns = [rule for group in ALERTS["groups"] for rule in group["rules"] if "Burn" in rule.get("alert", "")]
    assert len(burns) == 8
    for rule in burns:
        windows = re.findall(r"ratio_rate(\w+)", rule["expr"])
        assert windows[0] == rule["labels"]["window"]
        assert len(set(windows)) == 2


def test_the_page_has_every_metric(known: dict[str, set[str]]) -> None:
    page = (ROOT / "docs/observability.md").read_text()
    for name in known:
        if name.startswith("moonpool:") or name.endswith("_created"):
            continue
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert f"`{family}`" in page, f"{family} is not described"
