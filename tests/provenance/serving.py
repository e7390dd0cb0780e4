"""Servers of tests on loopback, which speak JSON and end with the test."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JSONHandler(BaseHTTPRequestHandler):
    """A request with JSON in it, and an answer of JSON."""

    def asked(self) -> dict[str, Any]:
        """What the request holds."""
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return dict(json.loads(raw)) if raw else {}

    def say(self, tree: Any, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        """Answer."""
        body = json.dumps(tree).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None, **known: Any) -> Iterator[str]:
    """The address of a server, until the block ends; ``known`` are the handler's attributes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), known))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
