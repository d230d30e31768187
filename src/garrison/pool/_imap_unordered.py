"""A running `imap_unordered`: the next result is that of the task that has ended first.

The core collects the batches whose tasks have ended, in that order. To look through all batches for
each result would cost the parent more with each worker.
"""

from __future__ import annotations

from collections import deque

from garrison._typing import TYPE_CHECKING
from garrison.pool._imap_stream import ResultStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.pool._imap_batch import Batch

__all__ = ["UnorderedResultStream"]


class UnorderedResultStream(ResultStream):
    """Results in the order in which they arrive."""

    @staticmethod
    def _deque_for_ended() -> deque[Batch]:
        return deque()

    def _first_ended(self) -> Batch | None:
        reader = self.reader
        if reader.has_taken or reader.has_failed:
            reader.has_taken = True
            reader.has_failed = False
            taken = [batch for batch in tuple(self._batches) if batch.task is None]
            if taken:
                return min(taken, key=lambda batch: batch.taken_order)
            reader.has_taken = False
        return self._first_collected()

    def _first_collected(self) -> Batch | None:
        """The untaken batch that has ended first."""
        reader = self.reader
        if reader.is_placing:
            # An interrupt has come, or another thread is about to do the same.
            reader.watch([batch for batch in tuple(self._batches) if batch.task is not None])
            reader.is_placing = False
        ended = reader.ended
        while ended or reader.running.collect(ended):
            if ended[0].task is not None:
                return ended[0]
            ended.popleft()
        return None

    def _is_there(self) -> bool:
        return bool(self.results) or any(batch.ended for batch in tuple(self._batches))

    def _before(self, batch: Batch) -> Batch | None:
        taken = [each for each in tuple(self._batches) if each.taken and each is not batch]
        return max(taken, key=lambda each: each.taken_order, default=None)

    def _wait(self, deadline: float | None, enough: Callable[[], bool]) -> bool:
        interrupts = self._backend.interrupts
        with self._lock:
            if self._first_collected() is not None:
                return True
            # From here on another thread may collect what this one waits for: then it tells.
            self._waiting.append(None)
        try:
            if not len(self.reader.running):
                return self.reader.wait(deadline, enough)
            return self._backend.wait_any(self.reader.running, deadline, interrupts)
        finally:
            self._waiting.pop()
