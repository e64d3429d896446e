"""Several Prometheus expositions as one. Pure.

Each family is declared once, with the samples of all instances, which `instance` and `module` tell apart.
A label of that name which a sample already has is kept as `exported_…`, as Prometheus itself does it.
"""

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample


class _Merged(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def merge(expositions: Mapping[str, bytes], modules: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """One valid exposition of `expositions` (by instance), and what had to be left out, in words.

    `modules` names the module of an instance. An instance whose exposition cannot be read is left out
    whole; a family whose type is not the one declared first, of that instance.
    """
    families: dict[str, Metric] = {}
    faults: list[str] = []
    for instance, exposition in sorted(expositions.items()):
        try:
            own = list(text_string_to_metric_families(exposition.decode()))
        except ValueError as error:
            faults.append(f"{instance}: {error}")
            continue
        labels = {"instance": instance, "module": modules.get(instance, "")}
        for family in own:
            known = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type, family.unit)
            )
            if known.type != family.type:
                faults.append(f"{instance}: {family.name} is a {family.type}, elsewhere a {known.type}")
                continue
            known.samples += [_labelled(sample, labels) for sample in family.samples]
    registry = CollectorRegistry()
    registry.register(_Merged(list(families.values())))
    return generate_latest(registry), faults


def _labelled(sample: Sample, labels: Mapping[str, str]) -> Sample:
    own = {f"exported_{name}" if name in labels else name: value for name, value in sample.labels.items()}
    return sample._replace(labels={**own, **labels})
