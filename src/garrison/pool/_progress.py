"""A progress bar on a terminal or in a notebook; nothing elsewhere."""

from __future__ import annotations

import sys

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Bar"]


class Bar:
    """Counts items on stderr: `total` of them, or an open end."""

    def __init__(self, function: Callable[..., Any], total: int | None) -> None:
        # Late: rich takes 60 ms to import.
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        console = Console(file=sys.stderr)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (console.is_terminal or console.is_jupyter),
        )
        name = getattr(function, "__name__", type(function).__name__)
        self._task = self._progress.add_task(name, total=total)
        self._progress.start()

    def advance(self, items: int = 1) -> None:
        """Add `items` to those that are done."""
        self._progress.advance(self._task, items)

    def close(self) -> None:
        """Leave the bar on the terminal as it is, and stop drawing it."""
        self._progress.stop()
