"""The text of a progress bar. It does no I/O."""

from __future__ import annotations

import unicodedata

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bar_line", "columns", "facts"]

WIDEST_BAR = 40
NARROWEST_BAR = 10
LEAST_LABEL = 12
"""Columns of a label that are kept as long as anything else can be left out."""
SECONDS_A_MINUTE = 60
EXACT_RATE = 100
GREEN, CYAN, GREY, PLAIN = "\x1b[32m", "\x1b[36m", "\x1b[90m", "\x1b[0m"
LEFT_OUT = (4, 3, 5, 2)
"""What a narrow terminal does without, in this order: places in `facts`."""


def facts(done: int, total: int | None, seconds: float, *, ended: bool) -> list[str]:
    """Return count, percentage, rate, and time taken and left; an unknown one is empty.

    Examples
    --------
    >>> facts(30, 120, 15.0, ended=False)
    ['30/120', '25%', '2.0/s', '0:15', '0:45 left']
    """
    rate = done / seconds if seconds > 0 else 0.0
    left = ""
    if total is not None and rate and not ended:
        left = f"{clock(max(0, total - done) / rate)} left"
    return [
        f"{done:,}/{'?' if total is None else f'{total:,}'}",
        f"{100 * done // total}%" if total else "",
        _rate(rate),
        clock(seconds),
        left,
    ]


def _rate(rate: float) -> str:
    if not rate:
        return ""
    if rate < 1:
        return f"{1 / rate:,.1f} s each"
    return f"{rate:,.1f}/s" if rate < EXACT_RATE else f"{rate:,.0f}/s"


def clock(seconds: float) -> str:
    """Return a time as ``M:SS`` or ``H:MM:SS``."""
    minutes, second = divmod(int(seconds), SECONDS_A_MINUTE)
    hours, minute = divmod(minutes, SECONDS_A_MINUTE)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def bar_line(
    label: str,
    parts: Sequence[str],
    share: float | None,
    width: int,
    *,
    label_width: int = 0,
    ascii_only: bool,
    colour: bool,
) -> str:
    """Return one line that fits.

    Parameters
    ----------
    label
        What is counted.
    parts
        The `facts`.
    share
        How much of all is done, from 0 to 1; None if that is not known.
    width
        Columns of the terminal.
    label_width
        Columns that the label takes at least, so that bars begin below each other.
    ascii_only, colour
        What the terminal can show.
    """
    kept = dict(enumerate(parts, 1))
    room = width - min(columns(label), LEAST_LABEL) - NARROWEST_BAR - 2
    for place in LEFT_OUT:
        if _columns_of(kept) > room:
            kept.pop(place, None)
    tail = "  ".join(filter(None, kept.values()))
    label = fitted(
        label, max(1, min(width // 3, width - len(tail) - 2)), "~" if ascii_only else "…"
    )
    label += " " * (min(label_width, width // 3) - columns(label))
    bar = min(WIDEST_BAR, width - columns(label) - len(tail) - 4)
    middle = [_bar(share, bar, ascii_only, colour)] if bar >= NARROWEST_BAR // 2 else []
    return "  ".join([label, *middle, tail]) if label else "  ".join([*middle, tail])


def _columns_of(kept: dict[int, str]) -> int:
    return sum(len(part) + 2 for part in kept.values() if part)


def _bar(share: float | None, width: int, ascii_only: bool, colour: bool) -> str:
    full, empty = ("#", "-") if ascii_only else ("━", "━" if colour else "─")
    filled = int(width * min(1.0, share or 0.0))
    if not colour:
        return full * filled + empty * (width - filled)
    paint = GREEN if filled == width else CYAN
    return f"{paint}{full * filled}{PLAIN}{GREY}{empty * (width - filled)}{PLAIN}"


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "FW" else 1


def fitted(text: str, width: int, mark: str) -> str:
    """Return a text without control characters, cut so that it takes `width` columns at most."""
    text = "".join(each if each.isprintable() else " " for each in text)
    if columns(text) <= width:
        return text
    kept, used = "", 0
    for character in text:
        used += _columns(character)
        if used >= width:
            break
        kept += character
    return f"{kept}{mark}"
