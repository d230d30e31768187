"""A server of sites that can misbehave, and that says when a request has come.

A page's path says what it does: see `PAGES`. Every host is served, and by default each path
answers with a page that names its host and path.
"""

from __future__ import annotations

import contextlib
import email.utils
import gzip
import http.server
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil

SECONDS_TO_WAIT = 20.0


class SiteServer(http.server.ThreadingHTTPServer):
    """Serves until closed; a thread for each connection, none left afterwards."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        if tls is not None:  # the handshake belongs to the connection's own thread
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.server_address[1]
        self.connect_to = f"::127.0.0.1:{self.port}"
        self.released = threading.Event()
        self.hits: Counter[str] = Counter()
        self.agents: list[str] = []
        self.connections = 0
        self.most_at_once = 0
        self._at_once = 0
        self.robots: bytes | None = None
        self.robots_status = 200
        self.ports: dict[str, int] = {}
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="site server")
        self._thread.start()

    def url(self, path: str) -> str:
        """The full URL of a page."""
        return f"http://127.0.0.1:{self.port}{path}"

    def note_hit(self, page: str) -> None:
        """Count a request, and tell those who wait for it."""
        with self._news:
            self.hits[page] += 1
            self._news.notify_all()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count the requests that are answered at the same time."""
        with self._news:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._news:
                self._at_once -= 1

    def wait_for(self, page: str, hits: int = 1) -> None:
        """Wait until a page was asked for so many times."""
        with self._news:
            came = self._news.wait_for(lambda: self.hits[page] >= hits, SECONDS_TO_WAIT)
        assert came, f"{page} was asked for {self.hits[page]} times, not {hits}: {self.hits}"

    def wait_for_total(self, hits: int) -> None:
        """Wait until there were so many requests in all."""
        with self._news:
            assert self._news.wait_for(lambda: self.total() >= hits, SECONDS_TO_WAIT)

    def clients(self) -> set[int]:
        """The processes that have asked for something and are still there."""
        theirs = set(self.ports.values())
        return {
            connection.pid
            for connection in psutil.net_connections("tcp4")
            if connection.pid
            and connection.laddr.port in theirs
            and connection.raddr
            and connection.raddr.port == self.port
        }

    def client(self, page: str) -> int:
        """The process that asked for a page last."""
        [pid] = {
            connection.pid
            for connection in psutil.net_connections("tcp4")
            if connection.pid and connection.laddr.port == self.ports[page] and connection.raddr
        }
        return int(pid)

    def total(self) -> int:
        """How many requests there were."""
        return self.hits.total()

    def close(self) -> None:
        """End it, with every connection."""
        self.released.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: clients that go away are what is tested."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: SiteServer
    protocol_version = "HTTP/1.1"
    timeout = SECONDS_TO_WAIT
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            if self.rfile.peek(1)[:1] == b"\x16":  # type: ignore[attr-defined]
                self.close_connection = True  # TLS, which is not spoken here
                return
            super().handle_one_request()

    def do_GET(self) -> None:  # the name http.server looks for
        path = self.path.partition("?")[0]
        host = self.headers["Host"].partition(":")[0]
        self.server.agents.append(self.headers["User-Agent"])
        page = path if host == "127.0.0.1" else f"{host}{path}"
        self.server.ports[page] = self.client_address[1]
        self.server.note_hit(page)
        name = path.strip("/").partition("/")[0]
        with self.server.counted():
            PAGES.get(name, plain)(self)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""

    def answer(
        self, body: bytes, status: int = 200, length: int | None = None, **headers: str
    ) -> None:
        """Send a whole answer; `length` may lie."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in ({"Content-Type": "text/html"} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        """What the plain page of this path holds."""
        return page_body(self.headers["Host"].partition(":")[0], self.path)


def page_body(host: str, path: str) -> bytes:
    """What a plain page holds."""
    return f"<p>{host} {path}</p>".encode()


def plain(request: Handler) -> None:
    request.answer(request.body())


def compressed(request: Handler) -> None:
    assert "gzip" in request.headers["Accept-Encoding"]
    request.answer(gzip.compress(request.body() * 100), Content_Encoding="gzip")


def redirected(request: Handler) -> None:
    request.answer(b"", 302, Location="/plain")


def to_secret(request: Handler) -> None:
    request.answer(b"", 302, Location="/plain?access_token=hidden#id_token=hidden")


def looping(request: Handler) -> None:
    request.answer(b"", 302, Location=request.path)


def with_cookie(request: Handler) -> None:
    if "seen=1" in request.headers.get("Cookie", ""):
        plain(request)
    else:
        request.answer(b"", 302, Location=request.path, Set_Cookie="seen=1; Path=/")


def to_another(request: Handler) -> None:
    """Redirect to what follows the page's name: `/to/127.0.0.1:80/x`."""
    request.answer(b"", 302, Location=f"http://{request.path.removeprefix('/to/')}")


def to_a_file(request: Handler) -> None:
    request.answer(b"", 302, Location="file:///etc/passwd")


def nowhere(request: Handler) -> None:
    request.answer(b"", 302)


def status(request: Handler) -> None:
    code = int(request.path.rpartition("/")[2])
    request.answer(b"<p>an error page</p>", code)


def busy_once(request: Handler) -> None:
    if request.server.hits[request.path] == 1:
        request.answer(b"", 503, Retry_After="1")
    else:
        plain(request)


def limited(request: Handler) -> None:
    """Ask for a pause with a date, once."""
    if request.server.hits[request.path] == 1:
        date = email.utils.formatdate(time.time() + 2, usegmt=True)
        request.answer(b"", 429, Retry_After=date)
    else:
        plain(request)


def robots(request: Handler) -> None:
    """Answer as the test wants, or that there is none."""
    if request.server.robots is None:
        request.answer(b"", 404)
    else:
        request.answer(request.server.robots, request.server.robots_status)


def truncated(request: Handler) -> None:
    request.answer(b"half", length=1000)
    request.close_connection = True


def cut_once(request: Handler) -> None:
    (truncated if request.server.hits[request.path] == 1 else plain)(request)


def large(request: Handler) -> None:
    request.answer(b"x" * 3_000_000)


def endless(request: Handler) -> None:
    request.send_response(200)
    request.end_headers()
    request.close_connection = True
    with contextlib.suppress(OSError):
        while not request.server.released.is_set():
            request.wfile.write(b"x" * 10_000)


def bomb(request: Handler) -> None:
    request.answer(gzip.compress(bytes(5_000_000)), Content_Encoding="gzip")


def small_bomb(request: Handler) -> None:
    request.answer(gzip.compress(bytes(900_000)), Content_Encoding="gzip")


def big_bomb(request: Handler) -> None:
    """Send 100 MB, as half a megabyte."""
    request.answer(gzip.compress(bytes(100_000_000), 1), Content_Encoding="gzip")


def well_compressed(request: Handler) -> None:
    """Send 8 MB, as a tenth of it."""
    part = random.Random(1).randbytes(100_000) + bytes(900_000)
    request.answer(gzip.compress(part * 8), Content_Encoding="gzip")


def held(request: Handler) -> None:
    """Answer only when the server is told to."""
    request.server.released.wait(SECONDS_TO_WAIT)
    plain(request)


def half_held(request: Handler) -> None:
    """Send 2 MB, keep the rest back until the server is told to."""
    request.send_response(200)
    request.send_header("Content-Length", "4000000")
    request.end_headers()
    request.wfile.write(b"x" * 2_000_000)
    request.wfile.flush()
    request.server.note_hit("half sent")
    request.server.released.wait(SECONDS_TO_WAIT)
    request.wfile.write(b"y" * 2_000_000)


def garbage(request: Handler) -> None:
    request.wfile.write(b"\x00\xff no HTTP at all\r\n\r\n")
    request.close_connection = True


def silent(request: Handler) -> None:
    request.close_connection = True


def slow(request: Handler) -> None:
    time.sleep(0.05)
    plain(request)


def evil_headers(request: Handler) -> None:
    request.answer(request.body(), Content_Type="text/html\x1b[31m\tx")


PAGES: dict[str, Callable[[Handler], None]] = {
    "big-bomb": big_bomb,
    "bomb": bomb,
    "busy-once": busy_once,
    "compressed": compressed,
    "cookie": with_cookie,
    "cut-once": cut_once,
    "endless": endless,
    "evil-headers": evil_headers,
    "garbage": garbage,
    "half-held": half_held,
    "held": held,
    "large": large,
    "limited": limited,
    "looping": looping,
    "nowhere": nowhere,
    "redirected": redirected,
    "robots.txt": robots,
    "silent": silent,
    "slow": slow,
    "small-bomb": small_bomb,
    "status": status,
    "to": to_another,
    "to-a-file": to_a_file,
    "to-secret": to_secret,
    "truncated": truncated,
    "well-compressed": well_compressed,
}
