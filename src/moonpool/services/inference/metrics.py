"""What inference tells Prometheus."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from moonpool.services.inference.answers import Tally
from moonpool.services.inference.models import Load, LocalModel

_LABELS = ["model"]


class LoadCollector(Collector):
    """Reads the load when it is scraped, so that nothing is counted on the hot path."""

    def __init__(self, load: Callable[[], Mapping[str, Load]]) -> None:
        self._load = load

    def collect(self) -> list[Metric]:
        families = {
            "running": GaugeMetricFamily("moonpool_inference_running", "Requests in a slot", labels=_LABELS),
            "waiting": GaugeMetricFamily("moonpool_inference_waiting", "Requests queued", labels=_LABELS),
            "slots": GaugeMetricFamily("moonpool_inference_slots", "Slots there are", labels=_LABELS),
            "prefill_rate": GaugeMetricFamily(
                "moonpool_inference_prefill_rate", "Prompt tokens per second", labels=_LABELS
            ),
            "decode_rate": GaugeMetricFamily(
                "moonpool_inference_decode_rate", "Answer tokens per second of one request", labels=_LABELS
            ),
        }
        for name, load in self._load().items():
            for field, family in families.items():
                family.add_metric([name], float(getattr(load, field)))
        return list(families.values())


class TokenCounter:
    """Tokens of answers that ended by themselves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tokens = Counter(
            "moonpool_inference_tokens", "Tokens by kind", ["model", "kind"], registry=registry
        )

    def __call__(self, model: LocalModel, tally: Tally) -> None:
        usage = tally.usage
        self._tokens.labels(model.name, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(model.name, "cached").inc(usage.cached_tokens)
        self._tokens.labels(model.name, "completion").inc(usage.completion_tokens)
