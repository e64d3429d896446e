"""The measurements: one function each, of one peer, giving plain figures by name.

The server under test has its core for itself; CPU time is the server's own, so a figure per request or per
event holds also where the load, on the other core, is what limits the rate.
"""

import time

from bench import machine
from bench.load import open_loop
from bench.peers.peer import Peer
from bench.requests import chat, stream_model
from bench.streams import Streams
from bench.wrk import saturate

CONNECTIONS = 64
STREAMS = 64
PAUSE_MS = 8
"""64 streams with an event every 8 ms: 8000 events/s, well below saturation, so that no two events of a
stream are relayed in one piece."""
OPEN_STREAMS = 1000
SLOW_MS = 1000

Figures = dict[str, float]


def throughput(peer: Peer, seconds: float) -> Figures:
    """Requests/s at saturation; and requests a second of the server's own CPU, which is what a core gives
    where something else (the load, other programs) kept it from being saturated."""
    beside = peer.beside()
    before, helpers = machine.cpu_seconds(list(peer.pids)), machine.cpu_seconds(beside)
    result = saturate(peer.plain, chat(), connections=CONNECTIONS, seconds=seconds)
    used = machine.cpu_seconds(list(peer.pids)) - before
    figures = {"requests_per_s": result.rate, "failed": float(result.failed)}
    if peer.pids:
        figures["requests_per_core_s"] = result.answered / max(0.01, used)
        figures["cpu_us_per_request"] = used / max(1, result.answered) * 1e6
        figures["core_busy"] = used / result.seconds
    if beside:
        figures["beside_cpu_us_per_request"] = (
            (machine.cpu_seconds(beside) - helpers) / max(1, result.answered) * 1e6
        )
    return figures


def latency(peer: Peer, seconds: float, rate: float) -> Figures:
    """Milliseconds from the point at which a request was due, at a fixed rate."""
    result = open_loop(peer.plain, chat(), rate=rate, connections=CONNECTIONS, seconds=seconds)
    quantiles = {"p50_ms": 0.5, "p99_ms": 0.99}
    return {
        **{name: result.quantile(share) * 1e3 for name, share in quantiles.items()},
        "failed": float(result.failed),
    }


def relay(peer: Peer, seconds: float) -> Figures:
    """CPU per relayed event of paced streams. `events_per_read` near 1 tells that each came by itself."""
    body = chat(stream_model(PAUSE_MS), stream=True)
    with Streams(peer.streaming, body, STREAMS) as streams:
        streams.read(0.5)
        before = machine.cpu_seconds(list(peer.pids))
        count = streams.read(seconds)
        used = machine.cpu_seconds(list(peer.pids)) - before
    figures = {"events_per_read": count.events / max(1, count.reads)}
    if peer.pids:
        figures["cpu_us_per_event"] = used / max(1, count.events) * 1e6
    return figures


def flood(peer: Peer, seconds: float) -> Figures:
    """Events/s when the stub writes as fast as it is read: pieces of a stream may travel together."""
    with Streams(peer.streaming, chat(stream_model(0), stream=True), STREAMS) as streams:
        streams.read(0.3)
        count = streams.read(seconds)
    return {"flood_events_per_s": count.events / count.seconds}


def memory(peer: Peer, seconds: float) -> Figures:
    """Proportional memory now, and per open stream with a thousand of them open."""
    if not peer.pids:
        return {}
    idle = machine.memory(list(peer.pids))
    with Streams(peer.streaming, chat(stream_model(SLOW_MS), stream=True), OPEN_STREAMS) as streams:
        streams.read(seconds)
        loaded = machine.memory(list(peer.pids))
    time.sleep(0.5)
    return {"memory_mb": idle / 1e6, "memory_kb_per_stream": (loaded - idle) / OPEN_STREAMS / 1e3}
