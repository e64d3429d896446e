"""The fault injector (tests/chaos/faulty.py) as a process of its own, and what tests tell and ask it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

PROGRAM = Path(__file__).parents[1] / "chaos/faulty.py"


class Injector:
    """`url` is the OpenAI base of its first port."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, control: int) -> None:
        self._process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}/v1"
        self._control = httpx.Client(base_url=f"http://127.0.0.1:{control}", trust_env=False, timeout=10)

    def fault(self, model: str = "*", kind: str = "normal", **how: Any) -> None:
        self._post("/_fault", {"model": model, "kind": kind, **how})

    def mend(self, model: str = "*") -> None:
        self.fault(model)

    def refuse(self, port: int) -> None:
        self._post("/_fault", {"kind": "refuse", "port": port})

    def accept(self, port: int) -> None:
        self._post("/_fault", {"kind": "normal", "port": port})

    def listen(self) -> int:
        """One more port, which can refuse while the others answer."""
        port: int = self._post("/_listen", {})["port"]
        return port

    def close_idle(self) -> None:
        self._post("/_close_idle", {})

    def seen(self, prompt: str) -> None:
        """Its client has the beginning of the answer: what a fault with `when_seen` waits for."""
        self._post("/_seen", {"prompt": prompt})

    def clear(self) -> None:
        self._post("/_clear", {})

    def stats(self) -> dict[str, Any]:
        return self._said(self._control.get("/_stats"))

    def count(self, model: str, what: str = "requests") -> int:
        counted: int = self.stats()["models"].get(model, {}).get(what, 0)
        return counted

    def log(self, model: str = "") -> list[dict[str, Any]]:
        return self._said(self._control.get("/_log", params={"model": model}))

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        self._process.wait(10)

    def close(self) -> None:
        self._control.close()

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._said(self._control.post(path, json=body))

    def _said(self, answer: httpx.Response) -> Any:
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def injecting() -> Iterator[Injector]:
    """An injector on free ports, for as long as the context."""
    process = subprocess.Popen([sys.executable, PROGRAM], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        injector = Injector(process, **json.loads(process.stdout.readline()))
        yield injector
        injector.close()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
