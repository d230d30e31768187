"""The table on standard output: fitted to a terminal, else columns with tabs between them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from garrison.fetch._progress import discard, printable, say
from garrison.fetch._site_queue import Page

__all__ = ["COLUMNS", "fitted_rows", "print_table", "shorten"]

COLUMNS = ("site", "final URL", "status", "type", "bytes", "seconds", "file or reason")
_SITE, _URL, _STATUS, _TYPE, _BYTES, _SECONDS, _LAST = range(len(COLUMNS))
_TO_THE_RIGHT = {_STATUS, _BYTES, _SECONDS}
_FLEXIBLE = (_SITE, _URL, _LAST)
_DROPPED = (_TYPE, _URL, _SECONDS, _BYTES, _STATUS)
"""What a narrow terminal does without, in this order; the report has it all."""
_LEAST = 20
"""Columns of text below which others are dropped."""
_MOST_ROWS = 100
_GAP = "  "
_SAME = "="
"""A final URL that is the site's."""
_BOLD, _RED, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[0m"


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
        discard(1)
    except OSError as error:
        discard(1)
        say(f"garrison fetch: the table cannot be written: {error.strerror}")


def _cells(page: Page, file: str) -> tuple[str, ...]:
    outcome = page.outcome
    last = file if page.fetched else f"failed: {outcome.reason}"
    status = str(outcome.status or ("kept" if page.from_earlier_run else "-"))
    site = page.site.text or f"line {page.site.line}"
    cells = (site, outcome.url or "-", status, outcome.type or "-", str(outcome.size))
    return tuple(printable(cell) for cell in (*cells, f"{outcome.seconds:.3f}", last))


def _print_tabs(pages: Sequence[Page], files: Sequence[str]) -> None:
    rows = [COLUMNS, *(_cells(page, file) for page, file in zip(pages, files, strict=True))]
    text = "".join("\t".join(row) + "\n" for row in rows)
    sys.stdout.buffer.write(text.encode(errors="backslashreplace"))


def _print_fitted(pages: Sequence[Page], files: Sequence[str]) -> None:
    everything = len(pages) <= _MOST_ROWS
    shown = [
        (page, _short_cells(page, file))
        for page, file in zip(pages, files, strict=True)
        if everything or not page.fetched
    ]
    if shown:
        lines = fitted_rows([cells for _, cells in shown], shutil.get_terminal_size().columns - 1)
        paint = ["" if page.fetched else _RED for page, _ in shown]
        coloured = _has_colours()
        for line, colour in zip(lines, [_BOLD, *paint], strict=True):
            text = f"{colour}{line}{_PLAIN}" if colour and coloured else line
            sys.stdout.write(f"{text}\n")
    if not everything:
        fetched = sum(page.fetched for page in pages)
        sys.stdout.write(
            f"{fetched:,} fetched pages are not listed; --report FILE, or a pipe, gives all.\n"
        )


def _has_colours() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in {"dumb", None}


def _short_cells(page: Page, file: str) -> tuple[str, ...]:
    site, url, status, kind, size, seconds, last = _cells(page, file)
    if url.rstrip("/") == site.rstrip("/"):
        url = _SAME
    elif not page.outcome.status:
        url = "-"  # nobody has answered there
    return site, url, status, kind.partition(";")[0], f"{int(size):,}", seconds, last


def fitted_rows(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the head and the rows, none longer than `width`."""
    table = [COLUMNS, *rows]
    kept = list(range(len(COLUMNS)))
    widths = {place: max(_columns(row[place]) for row in table) for place in kept}
    if all(row[_URL] in {_SAME, "-"} for row in rows):
        kept.remove(_URL)
    for place in [place for place in _DROPPED if place in kept]:
        if _least_width(widths, kept) <= width:
            break
        kept.remove(place)
    _narrow(widths, kept, width)
    return [_row(row, widths, kept) for row in table]


def _least_width(widths: dict[int, int], kept: list[int]) -> int:
    gaps = len(_GAP) * (len(kept) - 1)
    flexible = [min(widths[place], _LEAST) for place in kept if place in _FLEXIBLE]
    return gaps + sum(flexible) + sum(widths[place] for place in kept if place not in _FLEXIBLE)


def _narrow(widths: dict[int, int], kept: list[int], width: int) -> None:
    """Take what is too much from the widest texts."""
    flexible = [place for place in kept if place in _FLEXIBLE]
    while True:
        excess = sum(widths[place] for place in kept) + len(_GAP) * (len(kept) - 1) - width
        widest = max(flexible, key=lambda place: widths[place])
        if excess <= 0 or widths[widest] <= 1:
            return
        others = [widths[place] for place in flexible if widths[place] < widths[widest]]
        step = min(excess, widths[widest] - max(others, default=0))
        same = sum(widths[place] == widths[widest] for place in flexible)
        widths[widest] -= max(1, step // same)


def _row(row: Sequence[str], widths: dict[int, int], kept: list[int]) -> str:
    cells = []
    for place in kept:
        text = shorten(row[place], widths[place], at_the_end=row[place].startswith("failed: "))
        padding = " " * (widths[place] - _columns(text))
        cells.append(padding + text if place in _TO_THE_RIGHT else text + padding)
    return _GAP.join(cells).rstrip()


def shorten(text: str, width: int, *, at_the_end: bool = False) -> str:
    """Return a text in so many columns: what is too much is left out of the middle.

    Examples
    --------
    >>> shorten("https://example.com/articles/2024/index.html", 24)
    'https://exam…/index.html'
    """
    if _columns(text) <= width:
        return text
    tail = 0 if at_the_end else (width - 1) // 2
    start = _cut(text, width - 1 - tail)
    return f"{start}…{_cut(text[::-1], tail)[::-1]}"


def _cut(text: str, width: int) -> str:
    if text.isascii():
        return text[:width]
    used = 0
    for place, character in enumerate(text):
        used += _columns(character)
        if used > width:
            return text[:place]
    return text


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # few sites need it

    return cell_len(text)
