"""The home pages of a few sites, served from this machine over plain HTTP.

    with serving(["www.qq.com", "www.163.com"]) as port:
        ...  # fetch with --connect-to ::127.0.0.1:PORT

As real sites do, some redirect, some compress, and some take their time.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS_TO_THINK = 0.2
FIRST_BYTE_OF_TLS = b"\x16"


class SiteServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hosts: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.places = {host: place for place, host in enumerate(hosts)}


class Visit(BaseHTTPRequestHandler):
    """One connection: which site is asked for stands in its Host header."""

    server: SiteServer
    protocol_version = "HTTP/1.1"
    timeout = 10

    def handle_one_request(self) -> None:
        if self.rfile.peek(1)[:1] == FIRST_BYTE_OF_TLS:  # type: ignore[attr-defined]
            self.close_connection = True  # hang up at once: then the client tries plain HTTP
            return
        super().handle_one_request()

    def do_GET(self) -> None:  # the name http.server looks for
        host = self.headers.get("Host", "").partition(":")[0]
        place = self.server.places.get(host)
        if place is None:
            self.answer(404, f"no site {host} here".encode())
        elif place % 3 == 0 and self.path == "/":
            self.answer(301, b"", Location="/home")
        else:
            time.sleep(SECONDS_TO_THINK * (place % 2))
            self.answer(200, home_page(host))

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


def home_page(host: str) -> bytes:
    stories = "".join(f"<li>{host}, story {number}</li>" for number in range(1, 500))
    return f"<!doctype html><title>{host}</title><ul>{stories}</ul>".encode()


@contextmanager
def serving(hosts: list[str]) -> Iterator[int]:
    """Serve the hosts while the block runs; the value is the port."""
    server = SiteServer(hosts)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
