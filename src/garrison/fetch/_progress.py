"""Progress on standard error, the table on standard output.

On a terminal: a bar, and a table fitted to its width. Elsewhere: plain lines and tab-separated
columns. Text from servers is shown without control characters, which could control the terminal.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from garrison._typing import TYPE_CHECKING
from garrison.fetch._site_queue import Page

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

COLUMNS = ("site", "final URL", "status", "type", "bytes", "seconds", "file or reason")
_MOST_ROWS = 100
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
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")


def page_line(page: Page, file: str) -> str:
    """Return one plain line about a page."""
    outcome = page.outcome
    site = printable(page.site.text)
    if page.from_earlier_run:
        return f"{site}: kept {file}"
    if not page.fetched:
        return f"{site}: failed: {printable(outcome.reason)}"
    return f"{site}: {outcome.status}, {outcome.size:,} bytes in {outcome.seconds:.2f} s -> {file}"


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


def print_table(pages: Sequence[Page], files: Sequence[str]) -> None:
    """Print the table of all sites.

    Parameters
    ----------
    pages
        The outcomes of the sites, in their order.
    files
        The path of each site's page.
    """
    try:
        if sys.stdout.isatty():
            _print_fitted(pages, files)
        else:
            _print_tabs(pages, files)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader is gone. Nothing may be flushed into the pipe at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _cells(page: Page, file: str) -> tuple[str, ...]:
    outcome = page.outcome
    last = file if page.fetched else f"failed: {outcome.reason}"
    status = str(outcome.status or ("kept" if page.from_earlier_run else "-"))
    cells = (page.site.text, outcome.url or "-", status, outcome.type or "-", str(outcome.size))
    return tuple(printable(cell) for cell in (*cells, f"{outcome.seconds:.3f}", last))


def _print_tabs(pages: Sequence[Page], files: Sequence[str]) -> None:
    rows = [COLUMNS, *(_cells(page, file) for page, file in zip(pages, files, strict=True))]
    text = "".join("\t".join(row) + "\n" for row in rows)
    sys.stdout.buffer.write(text.encode(errors="backslashreplace"))


def _print_fitted(pages: Sequence[Page], files: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    everything = len(pages) <= _MOST_ROWS
    table = Table(header_style="bold", pad_edge=False, box=None, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        narrow = column in ("status", "bytes", "seconds")
        table.add_column(
            column, overflow="fold", no_wrap=narrow, justify="right" if narrow else "left"
        )
    for page, file in zip(pages, files, strict=True):
        if everything or not page.fetched:
            site, url, status, kind, size, seconds, last = _cells(page, file)
            cells = (site, url, status, kind.partition(";")[0], f"{int(size):,}", seconds, last)
            table.add_row(*map(Text, cells), style=None if page.fetched else "red")
    console = Console()
    if table.row_count:
        console.print(table)
    if not everything:
        fetched = sum(page.fetched for page in pages)
        console.print(
            f"{fetched:,} fetched pages are not listed; --report FILE, or a pipe, gives every one."
        )


def _amount(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:  # noqa: PLR2004
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
