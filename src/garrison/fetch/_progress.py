"""Progress on standard error: a bar on a terminal, plain lines elsewhere.

Text from servers is shown without control characters, which could control the terminal.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import Protocol

from garrison._typing import TYPE_CHECKING
from garrison.fetch._site_queue import Page

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_REFRESH_SECONDS = 0.1


class ProgressView(Protocol):
    """Shows the progress of a run."""

    @property
    def tick(self) -> float | None:
        """After how many seconds to call `refresh` although nothing has happened."""

    def page(self, page: Page, file: str) -> None:
        """Show that a site is done."""

    def note(self, text: str) -> None:
        """Show another message."""

    def refresh(self) -> None:
        """Bring the screen up to date."""

    def close(self) -> None:
        """Leave the screen clean."""


def make_progress_view(total: int) -> ProgressView:
    """Return the view that suits standard error."""
    if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", None):
        return BarProgress(total)
    return LineProgress(total)


def printable(text: str) -> str:
    """Replace the characters that would control a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def say(text: str) -> None:
    """Write a line to standard error, unless that is closed."""
    try:
        sys.stderr.write(f"{text}\n")
    except (OSError, ValueError):
        discard(2)


def discard(fd: int) -> None:
    """Let what is written to a standard stream from now on vanish: its reader is gone.

    What its buffer still has would be an error at the end of the program.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, fd)
    os.close(nowhere)


def open_standard_streams() -> None:
    """Open the standard streams that are closed, so that no file of ours gets their numbers."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "r" if fd == 0 else "w", closefd=False))  # noqa: SIM115


def page_line(page: Page, file: str) -> str:
    """Return one plain line about a page."""
    outcome = page.outcome
    site = printable(page.site.text) or f"line {page.site.line}"
    if page.from_earlier_run:
        return f"{site}: kept {file}"
    if not page.fetched:
        return f"{site}: failed: {printable(outcome.reason)}"
    return f"{site}: {outcome.status}, {outcome.size:,} bytes in {outcome.seconds:.2f} s -> {file}"


class NoProgress:
    """Nothing."""

    tick: float | None = None

    def page(self, page: Page, file: str) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def refresh(self) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class LineProgress:
    """Plain lines, one for each site."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._lines: list[str] = []
        self._written = 0.0

    @property
    def tick(self) -> float | None:
        """Soon, while there are lines to write."""
        return _REFRESH_SECONDS if self._lines else None

    def page(self, page: Page, file: str) -> None:
        """Show that a site is done."""
        self._done += 1
        self._lines.append(f"[{self._done}/{self._total}] {page_line(page, file)}")

    def note(self, text: str) -> None:
        """Show another message."""
        self._lines.append(text)

    def refresh(self) -> None:
        """Write the lines there are, not one by one when they come fast."""
        if self._lines and time.monotonic() - self._written >= _REFRESH_SECONDS:
            self.close()

    def close(self) -> None:
        """Write the last lines."""
        if self._lines:
            say("\n".join(self._lines))
            self._lines.clear()
            self._written = time.monotonic()


class BarProgress:
    """A progress bar; failures and notes scroll by above it."""

    tick: float | None = _REFRESH_SECONDS

    def __init__(self, total: int) -> None:
        self._bytes = 0
        self._failed = 0
        self._refreshed = time.monotonic()
        self._bar: Progress = _make_bar()
        self._task: TaskID = self._bar.add_task("fetching", total=total, amount="0 B", failed="")
        self._bar.start()

    def page(self, page: Page, file: str) -> None:
        """Show that a site is done."""
        self._bytes += 0 if page.from_earlier_run else page.outcome.size
        self._failed += not page.fetched
        failed = f"{self._failed} failed" if self._failed else ""
        self._bar.update(self._task, advance=1, amount=_amount(self._bytes), failed=failed)
        if not page.fetched:
            self.note(page_line(page, file))

    def note(self, text: str) -> None:
        """Show a message above the bar."""
        with suppress(OSError):
            self._bar.console.print(
                text, style="yellow", markup=False, highlight=False, soft_wrap=True
            )

    def refresh(self) -> None:
        """Draw the bar, if it was not drawn a moment ago."""
        if time.monotonic() - self._refreshed >= _REFRESH_SECONDS:
            self._refreshed = time.monotonic()
            with suppress(OSError):  # a terminal may go away in the middle
                self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        with suppress(OSError):
            self._bar.stop()


def _make_bar() -> Progress:
    from rich.console import Console  # not needed, and slow to load, without a terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        TextColumn("[red]{task.fields[failed]}"),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
    )


def _amount(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:  # noqa: PLR2004
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
