"""What a fork server must not have: threads, event loops, the engine."""

import json
import subprocess
import sys

PROGRAM = """
import json, os, sys, threading
import asyncio
import moonpool.wiring.preload as preload
print(json.dumps({
    "threads": threading.active_count(),
    "tasks": len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 1,
    "loop": asyncio._get_running_loop() is not None,
    "engine": [name for name in ("xllamacpp", "torch") if name in sys.modules],
    "missing": [name for name in (*preload.LIBRARIES, *preload.OURS) if name not in sys.modules],
    "group": os.getpgid(0) == os.getpid(),
    "collecting": __import__("gc").isenabled(),
}))
"""


def test_the_fork_server_is_loaded_and_quiet():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "threads": 1,
        "tasks": 1,
        "loop": False,
        "engine": [],
        "missing": [],
        "group": True,
        "collecting": False,
    }
