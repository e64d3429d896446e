"""A release that serves HTTP on the socket it inherits and fails a share of its answers: `FILE SHARE`."""

import random
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LISTENING = 3  # sd_listen_fds(3)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    share = 0.0

    def do_GET(self) -> None:
        fails = self.path.startswith("/api/") and random.random() < self.share
        body = b'{"error": {"message": "by intent"}}' if fails else b'{"status": "ready"}'
        self.send_response(500 if fails else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=LISTENING)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, _ = self.socket.accept()
        return connection, ("unix", 0)


if __name__ == "__main__":
    Handler.share = float(sys.argv[1])
    Server().serve_forever()
