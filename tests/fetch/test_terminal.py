"""What a person sees on a terminal."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from .runner import Runner
from .site_server import SiteServer

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """A terminal, and what was written to it."""

    width: int = 120

    def __post_init__(self) -> None:
        self.master, self.slave = os.openpty()
        size = struct.pack("4H", 40, self.width, 0, 0)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)

    def start(self, fetch: Runner, sites: Sequence[str], *options: str) -> subprocess.Popen[bytes]:
        """Start a run on it."""
        env = {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(self.width)}
        process = fetch.start(sites, *options, env=env, terminal=self.slave)
        os.close(self.slave)
        return process

    def read(self) -> str:
        """Return all that is written until the last writer is gone."""
        text = b""
        while True:
            try:
                text += os.read(self.master, 65536)
            except OSError:  # EIO: nobody has the other side any more
                os.close(self.master)
                return text.decode()


def plain(text: str) -> str:
    return ESCAPES.sub("", text).replace("\r\n", "\n")


def test_terminal_shows_a_bar_and_then_a_table(fetch: Runner, server: SiteServer) -> None:
    terminal = Terminal()
    urls = [server.url(path) for path in ("/plain", "/status/404", "/held")]
    process = terminal.start(fetch, urls)
    server.wait_for("/held")
    server.wait_for("/plain")
    server.released.set()
    text = terminal.read()
    assert process.wait(20) == 1
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) > 0
    assert "/3" in text
    shown = plain(text)
    assert f"{urls[1]}: failed: 404 Not Found" in shown
    table = shown[shown.index("file or reason") :]
    assert "text/html" in table
    assert "2 fetched, 1 failed" in shown


def test_table_of_a_long_list_has_failed_sites_only(fetch: Runner, server: SiteServer) -> None:
    terminal = Terminal()
    urls = [server.url(f"/page/{number}") for number in range(100)]
    process = terminal.start(fetch, [*urls, server.url("/status/410")])
    text = plain(terminal.read())
    assert process.wait(20) == 1
    table = text[text.index("file or reason") :]
    assert "410 Gone" in table
    assert "/page/" not in table
    assert "100 fetched pages are not listed" in table


@pytest.mark.parametrize("width", [20, 80, 200])
def test_site_is_not_interpreted_as_markup(fetch: Runner, server: SiteServer, width: int) -> None:
    terminal = Terminal(width)
    urls = [server.url("/[red]x[/b]"), server.url("/status/404?[/x]")]
    process = terminal.start(fetch, urls)
    text = plain(terminal.read())
    assert process.wait(20) == 1
    assert f"{urls[1]}: failed" in text
    assert width < 200 or urls[0] in text


def test_the_cursor_is_back_after_an_interrupt(fetch: Runner, server: SiteServer) -> None:
    terminal = Terminal()
    process = terminal.start(fetch, [server.url("/held")])
    server.wait_for("/held")
    os.killpg(process.pid, signal.SIGINT)
    text = terminal.read()
    assert process.wait(20) == 130
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
    assert "--resume goes on" in text


def test_closed_terminal_ends_the_run_in_order(fetch: Runner, server: SiteServer) -> None:
    terminal = Terminal()
    process = terminal.start(fetch, [server.url("/plain"), server.url("/held")])
    server.wait_for("/held")
    os.close(terminal.master)
    server.released.set()
    assert process.wait(20) in {0, 1}
    assert len(os.listdir(fetch.folder / "pages")) == 2
