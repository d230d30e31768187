"""The names and identities of workers: the same as in the standard library.

Their numbers are unique over all pools and processes of a program. So once a program has a pool,
the counter of `multiprocessing` becomes one in shared memory, from which the supervisor takes the
numbers of replacements.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
from multiprocessing import process as mp_process

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["allow_children", "draw", "name_of", "shared_counter", "uncounted"]

Counter = tuple[tuple[int, int], int]
_mp: Any = mp_process
_lock = threading.Lock()
_silent = threading.local()


class SharedCount:
    """As `itertools.count`, on a number in shared memory."""

    def __init__(self, start: int) -> None:
        self.key: Counter = _core.allot_counter(start)
        self._pid = os.getpid()
        self._own: itertools.count[int] | None = None

    def __iter__(self) -> SharedCount:
        return self

    def __next__(self) -> int:
        if getattr(_silent, "on", False):
            return 0
        if self._own is None and self._pid == os.getpid():
            return draw(self.key)
        if self._own is None:
            # A process of `os.fork` continues with its own counter.
            self._own = itertools.count(draw(self.key))
        return next(self._own)

    @property
    def is_ours(self) -> bool:
        """Whether it counts the children of this process."""
        return self._own is None and self._pid == os.getpid()


def shared_counter() -> Counter:
    """Return the counter of this process's children."""
    with _lock:
        counter = _mp._process_counter
        if not (isinstance(counter, SharedCount) and counter.is_ours):
            counter = _mp._process_counter = SharedCount(next(counter))
        return counter.key


os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """Make process objects without a number: they are no children of the program."""
    shared_counter()
    _silent.on = True
    try:
        yield
    finally:
        _silent.on = False


def draw(counter: Counter) -> int:
    """Take the next number."""
    return _core.next_number(*counter)


def next_of(counter: Counter | None, started: int) -> int:
    """Take the next number, or make one of the number of workers so far."""
    return draw(counter) if counter else started + 1


def name_of(prefix: str, identity: tuple[int, ...]) -> str:
    """Return the name of a worker: ``ForkPoolWorker-3``, in a worker's pool ``...-3:1``."""
    return f"{prefix}-{':'.join(map(str, identity))}"


_start: Any = mp_process.BaseProcess.start
_note_children: Callable[[list[int]], None] | None = None
_pid = 0


def allow_children(note: Callable[[list[int]], None]) -> None:
    """Let this daemonic process have children, and report those that must end with it.

    The standard library forbids them by an assertion in `start`, since no process would end them.
    Here the supervisor does. `daemon` remains True for code that reads it, such as joblib.
    """
    global _start, _note_children, _pid
    _note_children, _pid = note, os.getpid()
    process: Any = mp_process.BaseProcess
    if process.start is not _start_child:
        _start, process.start = process.start, _start_child


@functools.wraps(_start)
def _start_child(child: Any) -> None:
    config = _mp._current_process._config
    daemon = config.pop("daemon", None)
    try:
        _start(child)
    finally:
        if daemon is not None:
            config["daemon"] = daemon
    if os.getpid() == _pid and _note_children is not None:
        own = list(set.__iter__(_mp._children))
        _note_children([each.pid for each in own if each.daemon and each.pid])
