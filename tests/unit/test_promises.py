"""What was promised cannot skip unseen."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """
import pytest

pytestmark = pytest.mark.real_model

def test_runs():
    pass

def test_skips():
    pytest.skip("no weights today")

@pytest.fixture
def engine():
    pytest.skip("no engine today")

def test_skips_in_its_fixture(engine):
    pass

@pytest.mark.xfail(reason="known")
def test_fails_as_expected():
    raise ValueError
"""


def outcome(folder: Path, **environment: str) -> str:
    """pytest's last line for the suite, run in a folder that has our conftest.py."""
    shutil.copy(ROOT / "conftest.py", folder)
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    real_model: x\n    node: y\n")
    clean = {name: value for name, value in os.environ.items() if name not in {"CI", "MOONPOOL_PROMISED"}}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", str(folder)]
    run = subprocess.run(
        command, env={**clean, **environment}, cwd=folder, capture_output=True, text=True, check=False
    )
    return run.stdout.strip().splitlines()[-1]


def test_by_hand_a_missing_part_is_skipped(tmp_path: Path) -> None:
    assert outcome(tmp_path).startswith("1 passed, 2 skipped, 1 xfailed")


@pytest.mark.parametrize(
    "promise",
    [{"CI": "true"}, {"MOONPOOL_PROMISED": "node,real_model"}],
    ids=["CI", "by name"],
)
def test_what_is_promised_fails_instead(tmp_path: Path, promise: dict[str, str]) -> None:
    line = outcome(tmp_path, **promise)

    assert "skipped" not in line
    assert "1 passed" in line
    assert "1 failed" in line  # in the test itself
    assert "1 error" in line  # in its fixture
    assert "1 xfailed" in line


def test_another_promise_does_not_count(tmp_path: Path) -> None:
    assert outcome(tmp_path, MOONPOOL_PROMISED="node").startswith("1 passed, 2 skipped")
