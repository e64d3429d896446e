"""Throughput by `wrk`, when the machine has it: it costs a quarter of our own generator."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.load import Result, closed_loop
from bench.requests import PATH, Site

SCRIPT = """
wrk.method = "POST"
wrk.body = [==[{body}]==]
{headers}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nRESULT {{"requests": %d, "us": %d, "failed": %d}}\\n', summary.requests,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def saturate(site: Site, body: bytes, *, connections: int, seconds: float) -> Result:
    """As many requests as the server answers. Runs on the cores of this process."""
    program = shutil.which("wrk")
    if program is None:
        return closed_loop(site, body, connections=connections, seconds=seconds)
    headers = "\n".join(f"wrk.headers[{n!r}] = {v!r}" for n, v in site.headers().items() if n != "Host")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "chat.lua")
        script.write_text(SCRIPT.format(body=body.decode(), headers=headers))
        command = [program, "--threads=1", f"--connections={connections}", f"--duration={seconds:g}s"]
        command += ["--timeout=10s", f"--script={script}", f"http://127.0.0.1:{site.port}{PATH}"]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30)
    report = json.loads(run.stdout.rpartition("RESULT ")[2])
    good = report["requests"] - report["failed"]
    return Result(seconds=report["us"] / 1e6, answered=good, failed=report["failed"])
