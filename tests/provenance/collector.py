"""A server on loopback that keeps what it is sent, and serves what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Server:
    """``pages`` maps a path to (status, body) or to an address that it redirects to; ``received`` holds posted JSON."""

    url: str = ""
    pages: dict[str, tuple[int, bytes] | str] = field(default_factory=dict)
    received: list[tuple[str, Any]] = field(default_factory=list)
    status: int = 201


@contextmanager
def serving() -> Iterator[Server]:
    """Serve until the end of the block."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = server.pages.get(self.path, (404, b""))
            if isinstance(page, str):
                self.send_response(302)
                self.send_header("Location", page)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status, body = page
            self.send_response(status)
            # A status of 299 says more than it sends.
            self.send_header("Content-Length", str(len(body) + (10 if status == 299 else 0)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            server.received.append((self.path, json.loads(raw)))
            self.send_response(server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
