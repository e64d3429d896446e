"""The results for people: a table on the terminal, Markdown and JSON in bench/results/."""

import json
import platform
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from bench.results import ROWS, Results, Row

FOLDER = Path(__file__).parent / "results"
RATIOS = (("Moonpool", "Envoy"), ("Moonpool", "nginx"), ("nginx", "Envoy"))
NO_RATIO = frozenset(
    {"core_busy", "events_per_read", "failed", "beside_cpu_us_per_request", "added_p50_ms", "added_p99_ms"}
)


def headings(results: Results) -> list[str]:
    ratios = [f"{one}/{other}" for one, other in _ratios(results)]
    return ["", *results.peers, *ratios, "goal"]


def lines(results: Results) -> list[list[str]]:
    """One list of cells a figure that was measured at all."""
    return [_line(results, row) for row in ROWS if row.figure in results.rounds]


def _ratios(results: Results) -> list[tuple[str, str]]:
    return [pair for pair in RATIOS if set(pair) <= set(results.peers)]


def _line(results: Results, row: Row) -> list[str]:
    cells = [row.title]
    for peer in results.peers:
        value = results.middle(row.figure, peer)
        cells.append("" if value is None else f"{value:,.{row.digits}f}")
    for one, other in _ratios(results):
        ratio = None if row.figure in NO_RATIO else results.ratio(row.figure, one, other)
        cells.append("" if ratio is None else f"{ratio:.2f}")
    return [*cells, row.goal]


def show(results: Results, notes: list[str], console: Console) -> None:
    table = Table(title="Side by side, medians of interleaved rounds", title_justify="left")
    for heading in headings(results):
        table.add_column(heading, justify="left" if heading in {"", "goal"} else "right", no_wrap=True)
    for line in lines(results):
        table.add_row(*line)
    console.print(table)
    for note in notes:
        console.print(f"· {note}", highlight=False)


def save(results: Results, notes: list[str]) -> Path:
    """Write both files; returns the Markdown's path."""
    FOLDER.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    machine: dict[str, object] = {
        "cores": psutil.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
    }
    document = {"at": time.time(), "machine": machine, "notes": notes, "rounds": results.rounds}
    Path(FOLDER, f"{stamp}.json").write_text(json.dumps(document, indent=2) + "\n")
    path = FOLDER / f"{stamp}.md"
    path.write_text(_markdown(results, notes, machine))
    return path


def _markdown(results: Results, notes: list[str], machine: dict[str, object]) -> str:
    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    top = headings(results)
    aligned = ["---" if heading in {"", "goal"} else "--:" for heading in top]
    table = [row(top), row(aligned), *map(row, lines(results))]
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    return "\n".join(["# Side by side", "", about, "", *table, "", *[f"- {note}" for note in notes], ""])
