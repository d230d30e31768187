"""The iterators of `imap` and `imap_unordered`: results while the input is still being read."""

from __future__ import annotations

import sys
import time
import weakref
from typing import Generic, TypeVar

from garrison._typing import TYPE_CHECKING, Any, TypedBase
from garrison.errors import TaskCancelled
from garrison.pool._encoding import ItemError
from garrison.pool._imap_stream import ResultStream
from garrison.pool._imap_unordered import UnorderedResultStream
from garrison.pool._results import DEFAULT_GRACE_S, INTERRUPT_GRACE_S, check_grace
from garrison.pool._stdlib_names import StandardIterator, StandardUnorderedIterator, hide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.options import Options
    from garrison.pool._logs import LogReader
    from garrison.pool._pool import BasePool
    from garrison.pool._progress import Bar

__all__ = ["IMapIterator", "IMapUnorderedIterator"]

T = TypeVar("T")
if TYPE_CHECKING:
    IteratorBase = StandardIterator
    UnorderedBase = StandardUnorderedIterator
else:
    IteratorBase = TypedBase(StandardIterator)
    UnorderedBase = TypedBase(StandardUnorderedIterator)


class IMapIterator(IteratorBase[T], Generic[T]):
    """Results in the order of the input; made by `Pool.imap`.

    It is an iterator. `next` takes a timeout, in seconds. Dropping it before its end stops the
    reading of an input without a length.

    Examples
    --------
    >>> from garrison import Pool
    >>> with Pool(1) as pool:
    ...     results = pool.imap(abs, [-1, 2])
    ...     results.next(timeout=60), list(results)
    (1, [2])
    """

    _kind: type[ResultStream] = ResultStream
    _standard: Any = StandardIterator

    def __new__(cls, pool: Any, *arguments: Any) -> Any:
        """Make an iterator; of a pool alone a standard one, which methods of programs fill."""
        return super().__new__(cls) if arguments else cls._standard(pool)

    def __init__(
        self,
        pool: BasePool,
        function: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int,
        options: Options,
    ) -> None:
        self._pool: BasePool | None = pool
        self.stream: ResultStream = self._kind(pool, function, iterable, chunksize, options)
        self._readahead_limit = options.buffersize
        self._on_error = options.on_error
        self._log: LogReader | None = pool._backend.show_output() if options.logs else None
        self._bar: Bar | None = None
        self._notes_results: bool = self._readahead_limit is not None or self._log is not None
        """Whether a result that is handed out is noted: to read on, or by a progress bar."""
        try:
            self.stream.reader.start()
        except KeyboardInterrupt:
            self.withdraw()
            raise

    def __del__(self, _is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        """Stop: results are not wanted. A finalizer would keep the frames of the stream's errors.

        At the end of an interpreter it does nothing: modules may be empty, and the pool is gone.
        """
        stream = getattr(self, "stream", None)
        if stream is not None and not _is_ending():
            stream.drop()

    def __iter__(self) -> IMapIterator[T]:
        return self

    def __next__(self) -> T:  # type: ignore[override] # the next method takes a timeout
        results = self.stream.results
        if not results:
            return self.next()
        try:
            value = results.popleft()
        except IndexError:
            # Another thread has taken it. The next result is waited for outside of this block: this
            # error must not become the context of another.
            pass
        else:
            if type(value) is not ItemError and not self._notes_results:
                # As `_hand_out`: this is most of what a small result costs.
                return value  # type: ignore[no-any-return]
            if type(value) is not ItemError or self._on_error != "skip":
                try:
                    return self._hand_out(value)
                finally:
                    del value  # an error's frames must not lead back to it
            self._note_handed_out()
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """Return the next result.

        Raises
        ------
        StopIteration
            When the input is exhausted and all results were handed out.
        multiprocessing.TimeoutError
            If the next result does not arrive within `timeout` seconds; it is not lost.
        """
        try:
            value = self._next_wanted(timeout)
        except KeyboardInterrupt:
            self.withdraw()
            raise
        try:
            return self._hand_out(value)
        finally:
            del value

    def next_again(self, timeout: float | None = None) -> T:
        """Like `next`, but an interrupt ends nothing: another call goes on."""
        return self._hand_out(self._next_wanted(timeout))

    def _next_wanted(self, timeout: float | None) -> Any:
        """Wait for the next result, or failure unless those are skipped."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            value = self._next_value(deadline)
            if type(value) is not ItemError or self._on_error != "skip":
                return value
            self._note_handed_out()

    def close(self, *, grace: float = DEFAULT_GRACE_S) -> None:
        """End the iterator: what has not begun is withdrawn, what runs is cancelled.

        Ctrl-C in `next` does the same; the `next` that follows raises `TaskCancelled` then.

        Parameters
        ----------
        grace : float
            As for `AsyncResult.cancel`.

        Examples
        --------
        >>> import time
        >>> from garrison import Pool
        >>> with Pool(1) as pool:
        ...     results = pool.imap(time.sleep, [0, 60, 60])
        ...     next(results)
        ...     results.close()
        ...     list(results), pool.apply(abs, (-1,))
        ([], 1)
        """
        self._close(check_grace(grace), None)

    def withdraw(self) -> None:
        """End it after an interrupt, as `map` does: the pool is free for the next call."""
        self._close(INTERRUPT_GRACE_S, TaskCancelled("an interrupt has ended this iterator"))

    def _close(self, grace: float, error: BaseException | None) -> None:
        self.stream.close(grace, error)
        if self._bar is not None:
            self._bar.close()

    def _next_value(self, deadline: float | None) -> Any:
        # Before any lock: at the moment of a fork, a thread of the parent may have held it.
        if self._pool is not None:
            self._pool._check_process()
        try:
            return self.stream.next(deadline)
        except StopIteration:
            self._pool = None
            if self._bar is not None:
                self._bar.close()
            raise

    def _note_handed_out(self) -> None:
        if self._log is not None:
            self._log.drain()
        if self._readahead_limit is not None:
            self.stream.drop_read()
        if self._bar is not None:
            self._bar.advance()

    def _hand_out(self, value: Any) -> T:
        self._note_handed_out()
        if type(value) is ItemError:
            if self._on_error == "return":
                value = value.as_failure()
            else:
                try:
                    raise value.noted()
                finally:
                    del value
        result: T = value
        return result

    # --- Attributes of a standard iterator --------------------------------------------------------

    @property
    def _index(self) -> int:
        """The number of results so far."""
        return self.stream.arrived()

    @property
    def _length(self) -> int | None:
        """The number of items; None until the input has come to its end."""
        reader = self.stream.reader
        return reader.submitted if reader.exhausted else None

    def set_progress_bar(self, bar: Bar) -> None:
        """Report results that were handed out to a progress bar."""
        self._bar, self._notes_results = bar, True
        # An abandoned iterator must restore the terminal.
        weakref.finalize(self, bar.close)


class IMapUnorderedIterator(IMapIterator[T], UnorderedBase[T]):
    """Results in the order in which they arrive; else as `IMapIterator`."""

    _kind = UnorderedResultStream
    _standard = StandardUnorderedIterator


hide(IMapIterator, IMapUnorderedIterator)


for _public in (IMapIterator, IMapUnorderedIterator):
    _public.__module__ = "garrison.pool"
