"""The exceptions of garrison, all below ``GarrisonError`` but `TaskInterrupt`, which ends a task.

If the standard library raises a certain type for the same error, the class here is a subclass of
that type as well.
"""

from __future__ import annotations

import pickle
import signal as _signal
import sys
from multiprocessing import AuthenticationError

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = [
    "AbandonedLock",
    "ArgumentUnpicklable",
    "ChannelError",
    "ClaimLost",
    "ContainerGone",
    "DeadlockError",
    "EngineLost",
    "EngineMismatch",
    "EngineUnavailable",
    "GarrisonError",
    "ItemUnpicklable",
    "ItemsUnreadable",
    "LeaseLost",
    "ManagerLost",
    "NeedsLinux",
    "NotHeld",
    "OwnerDied",
    "PoolBroken",
    "PoolClosed",
    "PoolTerminated",
    "QueueClosed",
    "ResultUnpicklable",
    "SharedMemoryCorrupt",
    "SharedMemoryFull",
    "SharedMemoryGone",
    "ShutDown",
    "StoreBusy",
    "StoreCorrupt",
    "StoreFull",
    "StoreVersion",
    "TaskCancelled",
    "TaskInterrupt",
    "TaskTimeout",
    "TransactionFailed",
    "UntrustedFile",
    "ValueUnreadable",
    "WorkerDied",
    "WrongKind",
    "WrongServer",
]


class GarrisonError(Exception):
    """The root of garrison's own exceptions."""


class NeedsLinux(GarrisonError, NotImplementedError, ImportError):
    """A part of garrison was used that is not there on this system: ask `garrison.NATIVE`."""


if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(GarrisonError):
        """A manager's queue was shut down: `queue.ShutDown` of Python 3.13."""


class PoolClosed(GarrisonError, ValueError):
    """The pool was closed or terminated before this call: fix the order of the calls."""


class PoolTerminated(GarrisonError):
    """The pool was terminated before this task had ended; it will never have a result."""


class PoolBroken(GarrisonError):
    """No worker can start, so no task can run: the message says what the workers died of."""


class TaskCancelled(GarrisonError):
    """The call was cancelled, by `AsyncResult.cancel` or Ctrl-C: it has no result.

    Examples
    --------
    >>> import time
    >>> from garrison import Pool, TaskCancelled
    >>> with Pool(1) as pool:
    ...     result = pool.apply_async(time.sleep, (60,))
    ...     result.cancel()
    ...     try:
    ...         result.get()
    ...     except TaskCancelled:
    ...         print("cancelled")
    True
    cancelled
    """


class TaskInterrupt(KeyboardInterrupt):
    """Raised in a task that is cancelled while it runs; its worker goes on with the next task.

    Clean up (``finally``, ``with``) and let it pass: a task that has not ended when the grace of
    the cancel is over is ended together with its worker.

    Examples
    --------
    >>> import time
    >>> from garrison import Pool, TaskInterrupt
    >>> def wait(file):
    ...     try:
    ...         time.sleep(60)
    ...     except TaskInterrupt:
    ...         print("closing", file)
    ...         raise
    >>> with Pool(1) as pool:
    ...     pool.apply_async(wait, ("a file",)).cancel()
    True
    """


class ArgumentUnpicklable(GarrisonError, pickle.PicklingError, TypeError):
    """A part of the arguments cannot be pickled; the message names the path to it."""


class ResultUnpicklable(GarrisonError):
    """A task's result or exception arrived but cannot be rebuilt here.

    Attributes
    ----------
    type_name : str
        The type of the result or exception.
    remote_traceback : str
        For an exception: its traceback in the worker; else empty.
    """

    def __init__(self, message: str, type_name: str = "", remote_traceback: str = "") -> None:
        super().__init__(message, type_name, remote_traceback)
        self.type_name = type_name
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        tail = f"\n\nIn the worker:\n{self.remote_traceback}" if self.remote_traceback else ""
        return f"{self.args[0]}{tail}"


def _signal_name(number: int | None) -> str:
    try:
        return _signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"


class _TaskLost(GarrisonError):
    """The worker is gone and the task with it."""

    def __init__(self, task: str, facts: Mapping[str, Any]) -> None:
        super().__init__(task, dict(facts))
        self.task = task
        self.pid: int | None = facts.get("pid")
        self.signal: int | None = facts.get("signal")
        self.exitcode: int | None = facts.get("exitcode")
        self.out_of_memory: bool = bool(facts.get("out_of_memory"))
        self.stack: str = facts.get("stack", "")
        self.note: str = facts.get("note", "")
        self.node: str | None = facts.get("node")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self).partition(chr(10))[0]!r})"

    def _stack_text(self) -> str:
        return f"\n\nIts last Python stack:\n{self.stack}" if self.stack else ""


class WorkerDied(_TaskLost):
    """The process that ran this task went away; only this task is lost.

    Attributes
    ----------
    task : str
        The function and a short repr of its arguments.
    pid : int
        The worker's process number.
    signal : int or None
        The signal that killed it.
    exitcode : int or None
        As `multiprocessing.Process.exitcode`: negative for a signal.
    out_of_memory : bool
        Whether it was the kernel's out-of-memory killer.
    stack : str
        The worker's last Python stack, where faulthandler could still write it.
    node : str or None
        The node of the cluster on which it was, if that was not this machine's own pool.

    Examples
    --------
    >>> import os
    >>> from garrison import Pool, WorkerDied
    >>> with Pool(1) as pool:
    ...     try:
    ...         pool.apply(os._exit, (3,))
    ...     except WorkerDied as loss:
    ...         print(loss.exitcode)
    ...     print(pool.apply(abs, (-1,)))  # the pool goes on
    3
    1
    """

    def __str__(self) -> str:
        who = "the worker" if self.pid is None else f"worker {self.pid}"
        if self.node is not None and self.pid is not None:
            who += f" of node {self.node}"
        return f"{who} {self._cause()} while running {self.task}{self._stack_text()}"

    def _cause(self) -> str:
        if self.out_of_memory:
            return "was killed by the kernel because memory ran out (give it smaller tasks)"
        if self.note:
            return self.note
        if self.signal is not None:
            return f"was killed by {_signal_name(self.signal)}"
        return f"left with exit code {self.exitcode}"


class TaskTimeout(_TaskLost, TimeoutError):
    """One task took longer than its ``timeout``; its worker was replaced.

    The attributes are those of `WorkerDied`, and ``timeout`` in seconds.

    Examples
    --------
    >>> import time
    >>> from garrison import Pool, TaskTimeout
    >>> with Pool(1, timeout=0.05) as pool:
    ...     try:
    ...         pool.apply(time.sleep, (60,))
    ...     except TaskTimeout as error:
    ...         print(error.timeout)
    0.05
    """

    def __init__(self, task: str, facts: Mapping[str, Any]) -> None:
        super().__init__(task, facts)
        self.timeout: float = facts.get("timeout", 0.0)

    def __str__(self) -> str:
        return f"{self.task} took longer than {self.timeout:g} s{self._stack_text()}"


class EngineUnavailable(GarrisonError, ConnectionError):
    """The engine of a pool is not installed, not there, or has no room; with a remedy."""


class EngineMismatch(GarrisonError, RuntimeError):
    """The driver and a node of its cluster have other versions of Python or garrison: see both."""


class EngineLost(PoolBroken):
    """The engine of a pool went away: tasks that had not ended then never will."""


class AbandonedLock(GarrisonError, UserWarning):
    """A lock was taken from a process that had died holding it.

    What the lock protects may be half-written. ``on_abandon="ignore"`` silences it for one lock.
    """


class OwnerDied(GarrisonError):
    """The process that held this lock died, and the lock was made with ``on_abandon="raise"``.

    Attributes
    ----------
    pid : int or None
        The process that died.

    Examples
    --------
    >>> import os
    >>> from garrison import Lock, OwnerDied, Pool
    >>> lock = Lock(on_abandon="raise")
    >>> def die_with(lock):
    ...     lock.acquire()
    ...     os._exit(1)
    >>> with Pool(1) as pool:
    ...     pool.apply_async(die_with, (lock,)).wait()
    >>> try:
    ...     lock.acquire()
    ... except OwnerDied:
    ...     lock.recover()  # first mend what it protects
    True
    >>> lock.release()
    """

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message, pid)
        self.pid = pid

    def __str__(self) -> str:
        return str(self.args[0])


class DeadlockError(GarrisonError, RuntimeError):
    """A deadlock: each waiter waits for a lock of the next one; the message names them.

    Examples
    --------
    >>> from garrison import DeadlockError, Lock
    >>> lock = Lock(detect_deadlocks=True)
    >>> with lock:
    ...     try:
    ...         lock.acquire()
    ...     except DeadlockError:
    ...         print("this thread holds it already")
    this thread holds it already
    """


class ItemUnpicklable(ArgumentUnpicklable, AttributeError):
    """An item cannot be put into a queue, and was not; the message says why."""


class ItemsUnreadable(GarrisonError):
    """Some of the items that ``get_many`` has taken from a queue cannot be unpickled here.

    Attributes
    ----------
    items : list
        The others, in their order.
    errors : list of BaseException
        The exceptions, one for each unreadable item.
    """

    def __init__(self, message: str, items: list[Any], errors: list[BaseException]) -> None:
        super().__init__(message, items, errors)
        self.items = items
        self.errors = errors

    def __str__(self) -> str:
        return str(self.args[0])


class QueueClosed(GarrisonError, ValueError, OSError):
    """A queue, or one of its ends, was closed in this process, and then used."""


class SharedMemoryGone(GarrisonError, FileNotFoundError):
    """The shared memory of a handle cannot be opened here; the message says why."""


class ManagerLost(GarrisonError, ConnectionError):
    """The connection to a manager was lost, and could not be made again in time.

    The message names the request and the server, and says whether it may have been carried out.
    """


class TransactionFailed(GarrisonError, RuntimeError):
    """A transaction was undone; the message says why."""


class ValueUnreadable(GarrisonError):
    """A stored value cannot be unpickled here, though it is still stored; the cause says why."""


class ClaimLost(GarrisonError, RuntimeError):
    """A claimed item was returned to its queue meanwhile: another process may have it."""


class NotHeld(GarrisonError, ValueError, RuntimeError):
    """A lock was released by a caller that does not hold it."""


class LeaseLost(NotHeld):
    """A lock of a manager was released after its lease had expired; the message says why."""


class SharedMemoryFull(GarrisonError, MemoryError):
    """There is not enough shared memory.

    Free memory, send smaller pieces, or send a file name instead of the data.
    """


class SharedMemoryCorrupt(GarrisonError, OSError):
    """A word in the shared memory of a pool, queue or lock cannot be what was written there.

    The message says which. No other object is affected: make a new pool, queue or lock.
    """


class StoreFull(SharedMemoryFull):
    """The store is full; the transaction was rolled back.

    Free memory, delete entries, or make the store larger.
    """


class StoreBusy(GarrisonError, BlockingIOError):
    """Another process is writing to the store, and this call does not wait. Try again later."""


class StoreCorrupt(GarrisonError, OSError):
    """The stored data are damaged: restore the folder from a backup.

    ``garrison check FOLDER`` says what is damaged and what is lost.
    """


class StoreVersion(GarrisonError, OSError):
    """The store was written by another version of garrison. Open it with that version."""


class UntrustedFile(GarrisonError, PermissionError):
    """Another user can change this file or folder, so it is not used; the message has a remedy."""


class ContainerGone(GarrisonError, ReferenceError):
    """The container does not exist any more: it had no name and no reference."""


class WrongKind(GarrisonError, TypeError):
    """A container of this kind has no such operation; or the name is that of another kind."""


class WrongServer(GarrisonError, AuthenticationError):
    """The server has the key, but not the identity that it must have; the message has a remedy."""


class ChannelError(GarrisonError, ConnectionError):
    """The peer has violated the protocol, and the connection is closed; the message says how."""


class LinkBroken(GarrisonError):
    """No reply will arrive over this connection. For garrison itself, which repeats or explains.

    The arguments are the reason, whether the request may have been carried out, and whether the
    server has ended for good.
    """
