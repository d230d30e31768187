"""The bottom of the terminal, where all bars of this process are; prints scroll by above them.

While there is a bar, `sys.stdout` and `sys.stderr` are stand-ins, as far as they are a terminal:
a whole line takes the bars away, is written as it is, and the bars are drawn again below it.

Between two drawings the cursor is on an empty line above the bars: so a line that another process
writes to the terminal is above them, too. Of several at once the first is; the others go over bars.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import Protocol

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["SCREEN", "Screen"]

INTERVAL_S = 0.1
"""The least time between two drawings for progress alone."""
MOST_ENDED = 3
"""Ended bars that stay while others go on: a loop may make thousands."""
UP, CLEAR_LINE, CLEAR_BELOW, NEW_LINE = "\x1b[A", "\x1b[K", "\x1b[J", "\n"
STREAMS = ("stdout", "stderr")


class Row(Protocol):
    """A bar."""

    ended: bool
    label_width: int

    def line(self, width: int, stream: TextIO, label_width: int) -> str:
        """Return what it shows now."""


class Screen:
    """All bars of this process; the lowest is the newest."""

    def __init__(self) -> None:
        self._forget()
        self._stand_ins: dict[str, _StandIn] = {}
        os.register_at_fork(after_in_child=self._leave_to_parent)

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._rows: list[Row] = []
        self._drawn_at = 0.0
        self._terminal: TextIO | None = None

    def _leave_to_parent(self) -> None:
        """Begin anew in a forked child: what it prints must not draw its parent's bars."""
        self._forget()
        for stand_in in self._stand_ins.values():
            stand_in.drop_rest()
        self._restore_streams()

    def add(self, row: Row) -> None:
        """Show a new bar."""
        with self._lock:
            if not self._rows:
                self._terminal = sys.stderr
                self._replace_streams()
                atexit.register(self._end)
            self._rows.append(row)
            self._draw()

    def update(self, row: Row) -> None:
        """Show that a bar has changed, unless that was shown a moment ago."""
        with self._lock:
            if row in self._rows and time.monotonic() - self._drawn_at >= INTERVAL_S:
                self._draw()

    def end(self, row: Row) -> None:
        """Show a bar for the last time, and leave the terminal alone if it was the last one."""
        with self._lock:
            if row not in self._rows:
                return
            ended = [each for each in self._rows if each.ended]
            if len(ended) == len(self._rows):
                self._end()
                return
            for each in ended[:-MOST_ENDED]:
                self._rows.remove(each)
            self._draw()

    def write_above(self, stream: TextIO, text: str) -> bool:
        """Write whole lines above the bars; False if there are none."""
        with self._lock:
            if not self._rows or self._terminal is None:
                return False
            with contextlib.suppress(OSError, ValueError):
                self._terminal.write(f"\r{CLEAR_BELOW}")
                self._terminal.flush()
            stream.write(text)
            stream.flush()
            self._draw()
            return True

    def _end(self) -> None:
        atexit.unregister(self._end)
        if self._rows:
            self._draw(for_good=True)
        self._rows.clear()
        self._restore_streams()

    def _draw(self, *, for_good: bool = False) -> None:
        stream = self._terminal
        if stream is None:
            return
        width, height = terminal_size(stream)
        rows = self._rows[-max(1, height - 2) :]
        widest = max(row.label_width for row in rows)
        lines = [f"{row.line(width - 1, stream, widest)}{CLEAR_LINE}" for row in rows]
        bars = f"{NEW_LINE.join(lines)}{CLEAR_BELOW}"
        if for_good:
            text = f"\r{bars}{NEW_LINE}"
        else:
            text = f"\r{CLEAR_LINE}{NEW_LINE}{bars}\r{UP * len(lines)}"
        with contextlib.suppress(OSError, ValueError):  # a terminal may go away at any time
            stream.write(text)
            stream.flush()
        self._drawn_at = time.monotonic()

    def _replace_streams(self) -> None:
        for name in STREAMS:
            stream = getattr(sys, name)
            if is_terminal(stream):
                self._stand_ins[name] = stand_in = _StandIn(self, stream)
                setattr(sys, name, stand_in)

    def _restore_streams(self) -> None:
        for name, stand_in in self._stand_ins.items():
            if getattr(sys, name) is stand_in:
                setattr(sys, name, stand_in.stream)
            stand_in.write_rest()
        self._stand_ins = {}


class _StandIn:
    """A stream of the program, whose lines go above the bars."""

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self.stream = stream
        self._screen = screen
        self._begun = ""
        """A line without its end; it is shown with its end, or after the last bar."""

    def write(self, text: str) -> int:
        """Write text."""
        lines, newline, rest = text.rpartition("\n")
        if newline:
            lines, self._begun = f"{self._begun}{lines}\n", ""
            if not self._screen.write_above(self.stream, lines):
                self.stream.write(lines)
        self._begun += rest
        if rest and not self._screen._rows:  # somebody has kept this stand-in
            self.write_rest()
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def write_rest(self) -> None:
        """Write the line that has no end."""
        rest, self._begun = self._begun, ""
        if rest:
            self.stream.write(rest)

    def drop_rest(self) -> None:
        """Forget the line that has no end."""
        self._begun = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal on which a cursor can be moved."""
    try:
        return bool(stream.isatty()) and os.environ.get("TERM", "") not in {"", "dumb"}
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """Return columns and rows; 80 and 24 where the terminal does not say."""
    try:
        width, height = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        width = height = 0
    chosen = os.environ.get("COLUMNS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) else width or 80, height or 24


SCREEN = Screen()
