"""What `Options(progress=...)` shows: how many items of a call are done.

A bar has no thread. It is shown again when items are done, ten times a second at most; so a call
whose items all take long shows when one of them has ended.
"""

from __future__ import annotations

import functools
import multiprocessing
import threading
import warnings
from typing import Protocol

from garrison._typing import TYPE_CHECKING, Any
from garrison.options import GivenBar, is_bar
from garrison.pool import _progress_views as views

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Bar", "new_bar"]


class View(Protocol):
    """Where a bar is shown."""

    def show(self, done: int, /) -> None:
        """Show that so many items are done."""

    def close(self, done: int, /) -> None:
        """Show it for the last time."""


class Bar:
    """Counts the items of one call that are done.

    Parameters
    ----------
    view
        Where it is shown.
    """

    def __init__(self, view: View) -> None:
        self._view: View | None = view
        self._done = 0
        self._lock = threading.RLock()  # several threads may take results of one iterator

    def advance(self, items: int = 1) -> None:
        """Add `items` to those that are done."""
        with self._lock:
            self._done += items
            if self._view is not None:
                self._try(self._view.show)

    def close(self) -> None:
        """Show the bar for the last time; later calls do nothing."""
        with self._lock:
            if self._view is not None:
                self._try(self._view.close)
                self._view = None

    def _try(self, show: Callable[[int], None]) -> None:
        """Show it. Results must not be lost because of an error there."""
        try:
            show(self._done)
        except Exception as error:
            self._view = None
            _warn_of(error, show)


def new_bar(progress: Any, function: Callable[..., Any], total: int | None) -> Bar:
    """Return a bar for a call.

    Parameters
    ----------
    progress
        The option.
    function, total
        The function of the call, and the number of its items if that is known.
    """
    label = progress if isinstance(progress, str) else _name(function)
    bar = Bar(_view(progress, label, total))
    if not isinstance(progress, (bool, str)):
        bar.advance(0)  # tells the total
    return bar


def _view(progress: Any, label: str, total: int | None) -> View:
    if isinstance(progress, GivenBar):
        return _Given(progress.bar, total)
    if is_bar(progress.func if isinstance(progress, functools.partial) else progress):
        return _Made(progress(total=total, desc=label))
    if callable(progress):
        return _Called(progress, total)
    if views.in_notebook():
        return views.NotebookView(label, total)
    if views.on_terminal() and multiprocessing.parent_process() is None:
        return views.TerminalView(label, total)
    return views.LineView(label, total)


def _name(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _warn_of(error: Exception, show: Callable[[int], None]) -> None:
    shown = getattr(show, "__self__", show)
    message = (
        f"{shown}: {type(error).__name__}: {error}; it is not called again for this call of the "
        "pool, whose results are complete"
    )
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=4)
    except RuntimeWarning:
        # Warnings are errors here; but results must not be lost.
        views.write_line(f"RuntimeWarning: {message}")


class _Called:
    """A function of the program: ``function(done, total)``."""

    def __init__(self, function: Callable[[int, int | None], object], total: int | None) -> None:
        self._function, self._total = function, total

    def show(self, done: int) -> None:
        self._function(done, self._total)

    def close(self, _done: int) -> None:
        """Do nothing: it knows."""

    def __repr__(self) -> str:
        return f"progress={self._function!r}"


class _Given:
    """A bar of tqdm, or one like it, that the program has made and closes."""

    def __init__(self, bar: Any, total: int | None) -> None:
        self._bar, self._shown = bar, 0
        if total is not None and getattr(bar, "total", 0) is None:
            bar.total = total

    def show(self, done: int) -> None:
        self._bar.update(done - self._shown)
        self._shown = done

    def close(self, _done: int) -> None:
        refresh = getattr(self._bar, "refresh", None)
        if refresh is not None:
            refresh()

    def __repr__(self) -> str:
        return f"progress={type(self._bar).__name__}(...)"


class _Made(_Given):
    """A bar of a class of tqdm's."""

    def __init__(self, bar: Any) -> None:
        super().__init__(bar, None)

    def close(self, _done: int) -> None:
        self._bar.close()
