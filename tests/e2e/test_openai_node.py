"""The official OpenAI SDK for Node.js: node's own test runner, on the files in node/."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.platform import Platform

pytestmark = [pytest.mark.real_model, pytest.mark.node]

ROOT = Path(__file__).parents[2]


def test_the_node_sdk_is_served(platform: Platform) -> None:
    finder = [sys.executable, ROOT / "requirements/node.py", "path"]
    folder = subprocess.run(finder, capture_output=True, text=True, check=True).stdout.strip()
    result = subprocess.run(
        [Path(folder, "node"), "--test", "sdk.test.mjs"],
        cwd=Path(__file__).with_name("node"),
        env={**os.environ, "MOONPOOL_URL": platform.url, "MOONPOOL_KEY": platform.key},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "pass 7" in result.stdout
