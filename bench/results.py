"""What a run found: every figure of every round, and medians and ratios of them."""

from dataclasses import dataclass, field
from statistics import median

from bench.measure import Figures


@dataclass(frozen=True)
class Row:
    """One line of the report. `goal` is about Moonpool: its ratios to others, or a bound."""

    figure: str
    title: str
    digits: int = 1
    goal: str = ""


ROWS = (
    Row("requests_per_core_s", "requests/s per core", 0, "≥ 1.2 of Envoy, ≥ 0.3 of nginx"),
    Row("requests_per_s", "requests/s in this run", 0),
    Row("cpu_us_per_request", "CPU µs a request"),
    Row("core_busy", "its core's use meanwhile", 2),
    Row("beside_cpu_us_per_request", "CPU µs a request, its others"),
    Row("cpu_us_per_event", "CPU µs a relayed event", 1, "≤ 1.0 of Envoy, ≤ 1.6 of nginx"),
    Row("events_per_read", "events a read", 2),
    Row("flood_events_per_s", "events/s at saturation", 0),
    Row("p50_ms", "latency p50, ms", 3),
    Row("p99_ms", "latency p99, ms", 3),
    Row("added_p50_ms", "added latency p50, ms", 3, "≤ 0.3 ms"),
    Row("added_p99_ms", "added latency p99, ms", 3, "≤ 1 ms"),
    Row("memory_mb", "memory idle, MB", 1, "≤ 60 MB"),
    Row("memory_kb_per_stream", "memory a stream, kB", 1, "≤ 20 kB"),
    Row("memory_after_mb", "memory after the run, MB", 1),
    Row("failed", "failed requests", 0, "0"),
)
SUMMED = frozenset({"failed"})


@dataclass
class Results:
    """`rounds[figure][peer]` has one value a round, in order."""

    peers: list[str]
    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, peer: str, figures: Figures) -> None:
        for figure, value in figures.items():
            self.rounds.setdefault(figure, {}).setdefault(peer, []).append(value)

    def middle(self, figure: str, peer: str) -> float | None:
        """The median of the rounds (their sum for what is counted); None where it was not measured."""
        values = self.rounds.get(figure, {}).get(peer)
        if not values:
            return None
        return sum(values) if figure in SUMMED else median(values)

    def ratio(self, figure: str, peer: str, to: str) -> float | None:
        one, other = self.middle(figure, peer), self.middle(figure, to)
        return one / other if one is not None and other else None

    def add_differences(self, direct: str) -> None:
        """Added latency: what a peer took beyond the way without it, round by round."""
        for figure in ("p50_ms", "p99_ms"):
            values = self.rounds.get(figure, {})
            for peer in self.peers:
                if peer != direct and peer in values and direct in values:
                    pairs = zip(values[peer], values[direct], strict=True)
                    added = self.rounds.setdefault(f"added_{figure}", {})
                    added[peer] = [one - other for one, other in pairs]
