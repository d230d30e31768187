"""Transactions of a store on a Valkey server, and the waits for their ends.

The server knows one open transaction: the number (fence) of a writer's lease. What its writer does
is done at once, in the containers themselves, and each script notes what would undo it. Others
read what was there before; others that write wait. The commit forgets the notes. If the lease is
over, whoever comes next undoes it all; the writer's own requests are refused from then on.

::

    begin ──▶ tx = fence, owner, end of the lease ──▶ write: do it, note what undoes it ──▶ commit
                          │ over                        read by others: undo, read, redo
                          └──▶ next script of anybody: undo it all

A thread that waits sleeps in a blocking command on a list of its own. The script that makes the
change puts something into that list.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ContainerGone, GarrisonError, ManagerLost
from garrison.manager.valkey._refusals import Held
from garrison.store import PythonTransaction

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ThreadState", "TransactionsAndWaits"]

LOOK_AGAIN_S = 10.0
"""Seconds after which a waiter looks again by itself: its wake-up was lost with a connection."""
NO_CONTAINER = 0
"""The number under which writers wait for the end of a transaction."""

_slots = itertools.count(1)
_free_slots: deque[tuple[int, int]] = deque()
"""Numbers of threads that have ended, and of their last requests."""


class ThreadState(threading.local):
    """The requests of one thread, and its transaction.

    Attributes
    ----------
    fence : str
        The number of its transaction, or nothing.
    """

    def __init__(self) -> None:
        self.fence = ""
        self.pid = os.getpid()
        self._place = _Slot()

    def next_request(self) -> str:
        """Return the number of the next request: the server carries out each once."""
        place = self._place
        place.last += 1
        return f"{place.slot}:{place.last}"


class _Slot:
    """A number for one thread at a time."""

    __slots__ = ("last", "slot")

    def __init__(self) -> None:
        try:
            self.slot, self.last = _free_slots.popleft()
        except IndexError:
            self.slot, self.last = next(_slots), 0

    def __del__(self, give_back: Callable[[tuple[int, int]], None] = _free_slots.append) -> None:
        give_back((self.slot, self.last))


class TransactionsAndWaits:
    """The part of a backend that begins and ends transactions, and waits."""

    _thread: ThreadState
    _link: Any
    lease_ms: int
    _wake_numbers = itertools.count(1)
    fences: set[str]
    """The open transactions of this process, whose leases are renewed."""

    def run(self, name: str, *args: Any) -> Any:
        """Run a script."""
        raise NotImplementedError

    def write(self, name: str, *args: Any) -> Any:
        """Run a script that changes something; it is carried out once."""
        raise NotImplementedError

    def wake_key(self) -> str:
        """Return the name of a list for one wait."""
        raise NotImplementedError

    # -- transactions -----------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is in one."""
        mine = self._thread
        return bool(mine.fence) and mine.pid == os.getpid()

    def begin(self, timeout: float | None = None) -> None:
        """Begin a transaction; other writers wait until it is over."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                fence = self.write("begin", self.lease_ms).decode()
            except Held as held:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    msg = f"another transaction has lasted for {timeout} s"
                    raise TimeoutError(msg) from None
                self.wait_for_end(held, left)
            else:
                break
        self._thread.pid, self._thread.fence = os.getpid(), fence
        self.fences.add(fence)

    def commit(self) -> None:
        """Make all of it visible at once."""
        try:
            self.write("commit")
        finally:
            self._leave()

    def abort(self) -> None:
        """Undo all of it. A lost one was undone already."""
        try:
            with contextlib.suppress(ManagerLost, GarrisonError):
                self.write("abort")
        finally:
            self._leave()

    def _leave(self) -> None:
        fence, self._thread.fence = self._thread.fence, ""
        self.fences.discard(fence)

    def transaction(
        self, timeout: float | None = None, nested_failure_ok: bool = False
    ) -> PythonTransaction:
        """Return a block of operations that are one step."""
        return PythonTransaction(self, timeout, nested_failure_ok)

    # -- waits ------------------------------------------------------------------------------------

    def wait_for_end(self, held: Held, timeout: float | None = None) -> bool:
        """Wait until a transaction is over; False if its lease, or the time, was over before."""
        lease_s = max(held.left_ms, 0) / 1000 + 0.005
        return self._wait(
            NO_CONTAINER, held.fence, lease_s if timeout is None else min(lease_s, timeout)
        )

    def wait_for_change(self, c: int, seen: int, timeout: float | None = None) -> bool:
        """Wait for a container to change. If the connection breaks, the caller looks again."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LOOK_AGAIN_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return self._has_changed(c, seen)
            try:
                if self._wait(c, seen, min(left, LOOK_AGAIN_S)) and self._has_changed(c, seen):
                    return True
            except ManagerLost:
                return True

    def _has_changed(self, c: int, seen: int) -> bool:
        try:
            return self.change_count(c) != seen
        except ContainerGone:
            return True

    def change_count(self, c: int) -> int:
        """Return a number that is another one after every change."""
        raise NotImplementedError

    def _wait(self, c: int, seen: Any, timeout: float) -> bool:
        """Sleep until a change; False if the time was over before."""
        key = self.wake_key()
        woken = False
        try:
            woken = bool(self.run("wait", c, seen, key))
            woken = woken or self._link.block("BLPOP", key, timeout=timeout) is not None
        except ContainerGone:
            woken = True
        finally:
            if not woken:
                with contextlib.suppress(GarrisonError, OSError):
                    self.run("stop_waiting", c, key)
        return woken
