"""`Lock` and `RLock`."""

from __future__ import annotations

import warnings

from garrison import _core, _standard
from garrison._pickling import Transferable, assert_transfer
from garrison._typing import TYPE_CHECKING, Any, TypeAlias
from garrison.errors import AbandonedLock, OwnerDied
from garrison.memory import SharedBlock
from garrison.sync._known_locks import register_for_holders
from garrison.sync._slots import bind_methods, register_transfer

if TYPE_CHECKING:
    from multiprocessing import synchronize as _theirs
    from typing import Literal, TypedDict, TypeVar

    L = TypeVar("L", bound="LockBase")
    OnAbandon: TypeAlias = Literal["warn", "raise", "ignore"]

    class LockOptions(TypedDict, total=False):
        """What `Lock` and `RLock` can do beyond the standard library's, as an editor lists it."""

        on_abandon: OnAbandon
        """What an acquisition does after the owner has died."""
        detect_deadlocks: bool
        """Whether a deadlock raises `DeadlockError` in one of the waiting threads."""

else:
    _theirs = _standard.load("synchronize")

__all__ = ["Lock", "RLock"]

SIZE = 64
"""Bytes of a lock in shared memory: a cache line of its own."""
ON_ABANDON_MODES = ("warn", "raise", "ignore")
"""The values of `on_abandon`, in the order of their numbers in the core."""


class LockBase(Transferable, _theirs.SemLock):
    """The base of `Lock` and `RLock`: the core's methods, bound when the lock is made."""

    __slots__ = (
        "__enter__",
        "__exit__",
        "_semlock",
        "acquire",
        "locked",
        "recover",
        "release",
    )
    if TYPE_CHECKING:

        def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
            """Acquire the lock.

            Parameters
            ----------
            block : bool
                Whether to wait.
            timeout : float, optional
                Seconds to wait at most; by default as long as it takes.

            Returns
            -------
            bool
                Whether it was acquired in time.

            Raises
            ------
            OwnerDied
                If the owner died, and the lock was made with ``on_abandon="raise"``.
            DeadlockError
                If it was made with ``detect_deadlocks=True``, and the wait would never end.
            """

        def recover(self, block: bool = True, timeout: float | None = None) -> bool:
            """Acquire the lock even if its owner died; parameters as for `acquire`.

            After ``release()`` other processes acquire it as ever.
            """

        def release(self) -> None:
            """Release the lock.

            Raises
            ------
            NotHeld
                If no process holds it. It is a ValueError too.
            AssertionError
                If it is an `RLock` that this thread does not hold.
            """

        def locked(self) -> bool:
            """Whether any process holds it."""

        def __enter__(self) -> bool: ...
        def __exit__(self, *args: object) -> None: ...

    _recursive = False
    _is_fork_ctx = False
    _semlock: _core.Lock

    def __init__(
        self, *, ctx: Any = None, on_abandon: OnAbandon = "warn", detect_deadlocks: bool = False
    ) -> None:
        self._bind_to(SharedBlock(SIZE), 0, _mode(on_abandon), detect_deadlocks)

    def _bind_to(self, spot: SharedBlock, offset: int, mode: int, detects: bool) -> None:
        lock = _core.Lock(spot, offset, self._recursive, mode, detects)
        register_for_holders(lock)
        self._semlock = lock
        acquire, release, enter, leave = lock.quick()
        bind_methods(
            self, LockBase, acquire=acquire, release=release, __enter__=enter, __exit__=leave
        )
        bind_methods(self, LockBase, recover=lock.recover, locked=lock.locked)

    @classmethod
    def _from_block(
        cls: type[L], spot: SharedBlock, offset: int, mode: int = 0, detects: bool = False
    ) -> L:
        """Return an object for an existing lock in a block."""
        lock = cls.__new__(cls)
        lock._bind_to(spot, offset, mode, detects)
        return lock

    @property
    def _location(self) -> tuple[SharedBlock, int, int, bool]:
        spot, offset, _, mode, detects = self._semlock.place
        return spot, offset, mode, detects

    @property
    def abandoned(self) -> bool:
        """Whether this process's last acquisition took the lock from an owner that had died."""
        return self._semlock.abandoned

    def __reduce__(self) -> tuple[Any, ...]:
        assert_transfer(self)
        return _rebuild, (type(self), *self._location)


def _rebuild(kind: type[L], *place: Any) -> L:
    return kind._from_block(*place)


register_transfer(_core.Lock, register_for_holders)


def _mode(on_abandon: str) -> int:
    if on_abandon not in ON_ABANDON_MODES:
        modes = ", ".join(map(repr, ON_ABANDON_MODES))
        msg = f"on_abandon must be one of {modes}, not {on_abandon!r}"
        raise ValueError(msg)
    return ON_ABANDON_MODES.index(on_abandon)


def warn_or_raise_owner_died(lock: _core.Lock, pid: int | None, mode: int) -> None:
    """Warn or raise, as `on_abandon` says: the lock's owner died. The core calls this."""
    process = "a process" if pid is None else f"process {pid}"
    text = f"{process} died while it held this {'RLock' if lock.recursive else 'Lock'}"
    if ON_ABANDON_MODES[mode] == "raise":
        msg = f"{text}; repair what it protects, then acquire it with recover()"
        raise OwnerDied(msg, pid)
    if ON_ABANDON_MODES[mode] == "warn":
        warnings.warn(f"{text}: what it protects may be half-written", AbandonedLock, stacklevel=2)


class Lock(LockBase, _theirs.Lock):
    """A lock between processes that survives its owner.

    As `multiprocessing.Lock`: one process at a time holds it, and any process may release it. If
    the owner dies, the next process acquires the lock within 110 ms, and is warned.

    Parameters
    ----------
    on_abandon : {'warn', 'raise', 'ignore'}
        What an acquisition does after the owner has died. ``'warn'``: it succeeds, `abandoned`
        is true, and an `AbandonedLock` warning is given. ``'raise'``: it raises `OwnerDied`, in
        every process, until one of them calls ``recover()`` and then ``release()``. ``'ignore'``:
        it succeeds.
    detect_deadlocks : bool
        Whether a deadlock raises `DeadlockError` in one of the waiting threads. All the locks
        involved must be made with it, and each must be released by the thread that acquired it,
        as in a ``with``; an acquisition takes a microsecond longer.

    Examples
    --------
    >>> from garrison import Lock
    >>> lock = Lock()
    >>> with lock:
    ...     lock.acquire(timeout=0.01)
    False
    """

    __slots__ = ()


class RLock(LockBase, _theirs.RLock):
    """A lock that its owner may acquire again; parameters as for `Lock`.

    The thread that acquired it must release it as many times.

    Examples
    --------
    >>> from garrison import RLock
    >>> lock = RLock()
    >>> with lock, lock:
    ...     lock.locked()
    True
    """

    __slots__ = ()
    _recursive = True


WITHOUT = "it is a word in shared memory, not a named semaphore"
KEPT = ("_rand", "_make_name", "_cleanup")
"""Attributes of the standard class that do nothing to an instance."""

for _each in (Lock, RLock):
    _standard.hide(_each, WITHOUT, KEPT)
del _each
