"""nginx, when the machine has it: as a plain reverse proxy under test, and as the fastest of stubs.

The proxy keeps connections to its upstream alive and buffers as it does by default; a stream asks for no
buffering by its own header. Both run one worker, without access log.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import psutil

from bench.machine import free_port, wait_for_port
from bench.peers.peer import Peer, Setting, launch
from bench.requests import Site, answer

PREAMBLE = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
"""

STUB = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ default_type application/json; return 200 '{answer}'; }}
    }}
}}
"""

UPSTREAM = """
    upstream {name} {{
        server 127.0.0.1:{upstream};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://{name};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout 600s;
        }}
    }}
"""


def program() -> str | None:
    """nginx stands in sbin, which is not on every PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def start_stub(setting: Setting) -> int | None:
    """The port of an nginx that gives every request the stub's answer; None without nginx."""
    port = free_port()
    config = PREAMBLE + STUB
    values = {"port": port, "answer": answer().decode()}
    return port if _run(setting, "stub", config, setting.cores.others, values) else None


def start(setting: Setting) -> Peer | None:
    """None when the machine has no nginx."""
    plain, streaming = free_port(), free_port()
    one = UPSTREAM.format(name="plain", upstream=setting.plain, port=plain)
    two = UPSTREAM.format(name="streaming", upstream=setting.streaming, port=streaming)
    config = PREAMBLE + "".join(part.replace("{", "{{").replace("}", "}}") for part in (one, two)) + "}}\n"
    gateway = frozenset({setting.cores.gateway})
    pid = _run(setting, "nginx", config, gateway, {})
    if pid is None:
        return None
    wait_for_port(plain)
    pids = [pid, *(child.pid for child in psutil.Process(pid).children())]
    return Peer("nginx", _version(), Site(plain), Site(streaming), tuple(pids))


def _run(
    setting: Setting, name: str, config: str, cores: frozenset[int], values: dict[str, object]
) -> int | None:
    nginx = program()
    if nginx is None:
        return None
    folder = setting.folder / name
    folder.mkdir()
    user = "user root;" if os.getuid() == 0 else ""  # its worker must reach our folder
    path = Path(folder, "nginx.conf")
    path.write_text(config.format(folder=folder, user=user, **values))
    pid = launch([nginx, "-p", str(folder), "-c", str(path)], folder / "output.log", cores, setting.stack)
    if "port" in values:
        wait_for_port(int(str(values["port"])))
    return pid


def _version() -> str:
    said = subprocess.run([program() or "nginx", "-v"], capture_output=True, text=True, check=True).stderr
    match = re.search(r"nginx/([\d.]+)", said)
    return match[1] if match else said.strip()
