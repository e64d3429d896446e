"""Whether and where a process exports its spans."""

import os
from collections.abc import Mapping

from structlog.typing import FilteringBoundLogger

from moonpool import __version__
from moonpool.adapters.telemetry.otlp import OtlpSpans, disabled_by_environment, wanted_by_environment
from moonpool.contracts.config import PlatformConfig
from moonpool.ports.telemetry import SpanExporter
from moonpool.wiring.settings import ModuleSettings


def open_spans(
    config: PlatformConfig,
    settings: ModuleSettings,
    log: FilteringBoundLogger,
    environment: Mapping[str, str] = os.environ,
) -> SpanExporter | None:
    """None when neither `telemetry.otlp` nor the standard environment variables name a collector."""
    url = config.telemetry.otlp
    if disabled_by_environment(environment) or not (url or wanted_by_environment(environment)):
        return None
    resource = {
        "service.namespace": "moonpool",
        "service.name": f"moonpool-{settings.name}",
        "service.version": __version__,
        "service.instance.id": settings.instance,
        "moonpool.release": settings.release,
    }
    return OtlpSpans(url, resource, log)
