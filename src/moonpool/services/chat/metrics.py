"""What the chat service counts."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge


@dataclass(frozen=True)
class ChatMetrics:
    running: Gauge
    answers: Counter


def make_metrics(registry: CollectorRegistry) -> ChatMetrics:
    return ChatMetrics(
        running=Gauge("moonpool_chat_answers_running", "Answers being generated", registry=registry),
        answers=Counter("moonpool_chat_answers", "Answers by how they ended", ["status"], registry=registry),
    )
