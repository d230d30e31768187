"""Signals, `fork` and `waitpid` of the kernel, even if gevent has patched the modules.

A supervisor must run neither an event loop's `fork` or `waitpid` nor a signal handler of the
program. So it blocks all signals but two; its workers restore the program's mask.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has none
import contextlib
import os
import posix
import sys
import threading
import warnings
from multiprocessing import popen_fork, resource_tracker

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

__all__ = [
    "CANCEL_SIGNAL",
    "SIGCHLD",
    "SIGCONT",
    "SIGINT",
    "SIGPIPE",
    "SIG_DFL",
    "block_all_but",
    "block_signals",
    "blocked",
    "fork",
    "fork_supervisor",
    "handle_cancels",
    "hold_interrupt",
    "launch_workers",
    "plain_fork",
    "quiet_interrupt",
    "refresh_event_loop",
    "restore_fork",
    "set_handler",
    "set_mask",
    "unblock",
    "waitid",
    "waitpid",
    "was_sent",
]

# The functions of `signal` return enums, which touches, and so copies, forty pages in each new
# fork.
set_handler = _signal.signal
SIGCHLD, SIGCONT, SIGINT, SIGPIPE = (
    int(number) for number in (_signal.SIGCHLD, _signal.SIGCONT, _signal.SIGINT, _signal.SIGPIPE)
)
SIG_DFL = int(_signal.SIG_DFL)
CANCEL_SIGNAL = int(_signal.SIGRTMAX) - 6
"""Makes a worker look whether its task was cancelled."""
waitpid, waitid = posix.waitpid, posix.waitid
_EVERY = tuple(_signal.valid_signals())


def handle_cancels(handler: Callable[[int, FrameType | None], object]) -> None:
    """Have this called in a worker one of whose tasks may have been cancelled."""
    set_handler(CANCEL_SIGNAL, handler)
    unblock((CANCEL_SIGNAL,))  # the program may have blocked all signals


def blocked() -> list[int]:
    """Return this thread's mask of signals."""
    return sorted(_signal.pthread_sigmask(_signal.SIG_BLOCK, ()))


def set_mask(mask: Iterable[int]) -> None:
    """Set this thread's mask of signals."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def unblock(numbers: Iterable[int]) -> None:
    """Unblock these signals."""
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, numbers)


def block_all_but(numbers: Iterable[int]) -> None:
    """Unblock these signals only."""
    set_mask(set(_EVERY) - set(numbers))


def was_sent(number: int) -> bool:
    """Take a pending blocked signal, if there is one."""
    if number not in _signal.sigpending():
        return False
    return _signal.sigtimedwait((number,), 0) is not None


@contextlib.contextmanager
def block_signals(numbers: Iterable[int] = _EVERY) -> Iterator[None]:
    """Block signals; a SIGPIPE raised meanwhile is dropped."""
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, numbers)
    before = SIGPIPE in _signal.sigpending()
    try:
        yield
    finally:
        if not before:
            was_sent(SIGPIPE)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


_holds_interrupt = False


def hold_interrupt() -> None:
    """Block Ctrl-C until the next `quiet_interrupt`."""
    global _holds_interrupt  # noqa: PLW0603 - one mask per thread, and workers have one
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, (SIGINT,))
    _holds_interrupt = SIGINT not in before


class quiet_interrupt:  # noqa: N801 - used as a function
    """End this process silently if Ctrl-C comes while no task runs.

    No generator: `contextlib` would touch, and so copy, twenty pages of each new worker.
    """

    def __enter__(self) -> None:
        """Let a Ctrl-C come that was held."""
        global _holds_interrupt  # noqa: PLW0603 - see above
        if _holds_interrupt:
            _holds_interrupt = False
            self._unblock()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the process after a Ctrl-C."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._end()

    def _unblock(self) -> None:
        try:
            unblock((SIGINT,))
        except KeyboardInterrupt:
            self._end()
            raise

    @staticmethod
    def _end() -> None:
        set_handler(SIGINT, SIG_DFL)
        unblock((SIGINT,))
        os.kill(os.getpid(), SIGINT)


class _NoIntent:
    """Before 3.14.10 each child keeps the resource tracker."""

    preserve_fd = False


_intent: Any = getattr(resource_tracker, "_fork_intent", _NoIntent)


def fork() -> int:
    """Fork a process that keeps the program's resource tracker, as a `Process` does.

    With its own tracker, named memory that it creates would be removed at its end.
    """
    pid: int = _with_tracker(posix.fork)
    return pid


def fork_supervisor(*plan: Any) -> tuple[str, Any]:
    """Fork by `_core.fork_supervisor`, as `os.fork` does it."""
    sys.audit("os.fork")
    if sys.version_info >= (3, 12):
        _warn_of_threads()
    role, detail = _with_tracker(_core.fork_supervisor, *plan)
    return role, detail


def launch_workers(*plan: Any) -> tuple[str, Any]:
    """Fork by `_core.launch_workers`, with all signals blocked."""
    block_all_but(())
    role, detail = _with_tracker(_core.launch_workers, *plan)
    return role, detail


def _with_tracker(fork: Callable[..., Any], *plan: Any) -> Any:
    _intent.preserve_fd = True
    try:
        return fork(*plan)
    finally:
        _intent.preserve_fd = False


def _warn_of_threads() -> None:
    """Warn of threads that the child will not have, as `os.fork` does since Python 3.12."""
    try:
        threads = len(os.listdir("/proc/self/task"))
    except OSError:
        threads = threading.active_count()
    if threads > 1:
        text = (
            f"This process (pid={os.getpid()}) is multi-threaded, "
            "use of fork() may lead to deadlocks in the child."
        )
        where: Any = popen_fork
        # What was warned of before, as `warnings.warn` keeps it: it is cleared now and then.
        registry = vars(where).setdefault("__warningregistry__", {})
        warnings.warn_explicit(
            text, DeprecationWarning, where.__file__, 1, where.__name__, registry
        )


_patched_fork: Any = None


@contextlib.contextmanager
def plain_fork() -> Iterator[None]:
    """Set the kernel's fork in `os`, also in a child that is forked meanwhile."""
    global _patched_fork  # noqa: PLW0603 - as `os.fork` itself
    if os.fork is posix.fork:
        yield
        return
    _patched_fork = os.fork
    os.fork = posix.fork
    try:
        yield
    finally:
        restore_fork()


def restore_fork() -> None:
    """Restore the program's `os.fork`."""
    global _patched_fork
    if _patched_fork is not None:
        os.fork, _patched_fork = _patched_fork, None


def refresh_event_loop() -> None:
    """Notify gevent of the fork, as its own `os.fork` would have."""
    gevent: Any = sys.modules.get("gevent")
    if gevent is not None and getattr(os.fork, "__module__", "").startswith("gevent"):
        gevent.reinit()
