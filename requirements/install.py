"""Install a lock of this folder into the virtual environment that runs this, telling how far it is.

Standard library only: it runs before anything else is there. pip checks every file against the lock's
hashes and resolves nothing (`--no-deps`): the lock is complete.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

EVERY = 10.0
"""Seconds between signs of life when the output is no terminal."""


class Progress:
    """One line that is rewritten on a terminal, and a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seen: set[str] = set()
        self._told = time.monotonic()
        self._live = sys.stdout.isatty()

    def step(self, name: str, what: str) -> None:
        self._seen.add(name)
        text = f"  {len(self._seen)}/{self._total} {name} {what}"
        if self._live:
            print(f"\r\033[K{text[:100]}", end="", flush=True)
        elif time.monotonic() - self._told > EVERY:
            self._told = time.monotonic()
            print(text, flush=True)

    def over(self) -> None:
        if self._live:
            print("\r\033[K", end="", flush=True)


def install(lock: Path) -> int:
    """pip's exit code; its whole output is shown when it failed."""
    total = sum("==" in line for line in lock.read_text().splitlines())
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "-r", str(lock)]
    progress = Progress(total)
    output: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        name = ""
        for line in pip.stdout:
            output.append(line)
            if match := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+?)==", line):
                name = match[1]
                progress.step(name, "")
            elif match := re.match(r"\s+(?:Downloading|Using cached) \S+ (\(.*\))", line):
                progress.step(name, match[1])
            elif line.startswith("Installing collected packages"):
                progress.step(name, "downloaded; unpacking all")
    progress.over()
    if pip.returncode != 0:
        sys.stderr.writelines(output)
        print(f"\nCould not install {lock}: pip's own words are above.", file=sys.stderr)
    return pip.returncode


if __name__ == "__main__":
    sys.exit(install(Path(sys.argv[1])))
