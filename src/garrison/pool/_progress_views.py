"""Where garrison's own bars are shown: on a terminal, in a notebook, or as lines."""

from __future__ import annotations

import contextlib
import html
import os
import sys
import time

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool._progress_screen import INTERVAL_S, SCREEN, is_terminal
from garrison.pool._progress_text import bar_line, columns, facts

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["LineView", "NotebookView", "TerminalView", "in_notebook", "on_terminal", "write_line"]

FIRST_LINE_S = 5.0
LONGEST_PAUSE_S = 60.0


class _View:
    """What all bars know."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total = label, total
        self._started = time.monotonic()
        self._seconds = 0.0
        self._done = 0
        self.ended = False

    def _note(self, done: int) -> None:
        self._done, self._seconds = done, time.monotonic() - self._started

    @property
    def _share(self) -> float | None:
        """How much is done; of an unknown total everything at its end."""
        if self._total is None:
            return 1.0 if self.ended else None
        return self._done / self._total if self._total else 1.0

    def _facts(self) -> list[str]:
        return facts(self._done, self._total, self._seconds, ended=self.ended)

    def _text(self) -> str:
        return f"{self._label}: {', '.join(filter(None, self._facts()))}"


class TerminalView(_View):
    """A bar among those at the bottom of the terminal."""

    def __init__(self, label: str, total: int | None) -> None:
        super().__init__(label, total)
        self.label_width = columns(label)
        SCREEN.add(self)

    def show(self, done: int) -> None:
        """Show that so many items are done."""
        self._note(done)
        SCREEN.update(self)

    def close(self, done: int) -> None:
        """Leave it as it is."""
        self._note(done)
        self.ended = True
        SCREEN.end(self)

    def line(self, width: int, stream: TextIO, label_width: int) -> str:
        """Return what it shows now."""
        ascii_only = not _encodes(stream, "━─…")
        colour = not os.environ.get("NO_COLOR")
        label = self._label.encode("ascii", "replace").decode() if ascii_only else self._label
        share, parts = self._share, self._facts()
        return bar_line(
            label,
            parts,
            share,
            width,
            label_width=label_width,
            ascii_only=ascii_only,
            colour=colour,
        )


class NotebookView(_View):
    """An output of the cell, as plain HTML: it needs no ipywidgets, and stays when it is saved."""

    def __init__(self, label: str, total: int | None) -> None:
        super().__init__(label, total)
        from IPython.display import display  # there is one, since this is a notebook

        self._shown_at = time.monotonic()
        self._output: Any = display(self._outputs(), raw=True, display_id=True)

    def show(self, done: int) -> None:
        """Show that so many items are done, unless that was shown a moment ago."""
        self._note(done)
        if time.monotonic() - self._shown_at >= INTERVAL_S:
            self._update()

    def close(self, done: int) -> None:
        """Leave it as it is."""
        self._note(done)
        self.ended = True
        self._update()

    def _update(self) -> None:
        self._shown_at = time.monotonic()
        self._output.update(self._outputs(), raw=True)

    def _outputs(self) -> dict[str, str]:
        share = self._share
        value = "" if share is None else f' value="{share:.4f}"'
        bar = f'<progress max="1"{value} style="width: 20em; vertical-align: middle"></progress>'
        label, *rest = (html.escape(each) for each in (self._label, *self._facts()) if each)
        text = f"<code>{' &nbsp;'.join(rest)}</code>"
        return {"text/plain": self._text(), "text/html": f"<div>{label} {bar} {text}</div>"}


class LineView(_View):
    """Lines, in a log: one now and then, and one at the end."""

    def __init__(self, label: str, total: int | None) -> None:
        super().__init__(label, total)
        self._pause = FIRST_LINE_S
        self._due = self._started + self._pause

    def show(self, done: int) -> None:
        """Write a line, if it is time for one."""
        now = time.monotonic()
        if now >= self._due:
            self._note(done)
            write_line(self._text())
            self._pause = min(LONGEST_PAUSE_S, self._pause * 1.5)
            self._due = now + self._pause

    def close(self, done: int) -> None:
        """Write the last line."""
        self._note(done)
        self.ended = True
        write_line(self._text())


def in_notebook() -> bool:
    """Whether this is a notebook's kernel."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def on_terminal() -> bool:
    """Whether a bar can be drawn on standard error."""
    return is_terminal(sys.stderr)


def write_line(text: str) -> None:
    """Write a line to standard error, if there is one."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{printable}\n")
        sys.stderr.flush()


def _encodes(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
