"""`ThreadPool`: the methods of `Pool`, with threads of this process."""

from __future__ import annotations

from garrison import _os, _standard
from garrison._typing import TYPE_CHECKING, Any
from garrison.options import Options, check_int
from garrison.pool._pool import BasePool
from garrison.pool._stdlib_names import StandardThreadPool, hide
from garrison.pool._task_methods import raise_not_callable
from garrison.pool._thread_backend import ThreadBackend

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from typing_extensions import Unpack

    from garrison.options import OptionValues

__all__ = ["ThreadPool"]


class ThreadPool(BasePool, StandardThreadPool):  # type: ignore[misc] # more exact types
    """A pool of threads with the methods of `Pool`.

    Parameters
    ----------
    processes : int, optional
        Number of threads.
    initializer, initargs
        Called in each thread before its first task.
    **options
        The fields of `Options`, except `timeout`: a thread cannot be ended from outside.

    Examples
    --------
    >>> from garrison.pool import ThreadPool
    >>> with ThreadPool(2) as pool:
    ...     pool.map(str, range(3))
    ['0', '1', '2']
    """

    _backend: ThreadBackend

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        **options: Unpack[OptionValues],
    ) -> None:
        wanted = Options(**options)
        if processes is None:
            processes = _os.usable_cpus()
        processes = check_int("Number of processes", processes, least=1)
        if initializer is not None and not callable(initializer):
            raise_not_callable(initializer, "initializer")
        self._ctx, self._processes = _standard.current_context(), processes
        self._initializer, self._initargs = initializer, tuple(initargs)
        backend = ThreadBackend(processes, initializer, self._initargs, wanted)
        super().__init__(backend, wanted)

    @property
    def _pool(self) -> list[threading.Thread]:
        return self._backend.threads

    def _repopulate_pool(self) -> None:
        """Do nothing: threads do not die."""

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {self._backend.parallelism} threads>"


hide(ThreadPool)
ThreadPool.__module__ = "garrison.pool"
