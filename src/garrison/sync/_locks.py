"""`Lock` and `RLock`."""

from __future__ import annotations

from typing import TypeVar

from garrison import _core, _standard
from garrison._pickling import Transferable, assert_transfer
from garrison._typing import TYPE_CHECKING, Any
from garrison.memory import Spot
from garrison.sync._abandon import MODES
from garrison.sync._bound import bind, let_travel
from garrison.sync._graph import remember

__all__ = ["Lock", "RLock"]

L = TypeVar("L", bound="Mutex")
_theirs: Any = _standard.load("synchronize")
SIZE = 64
"""Bytes of a lock in shared memory: a cache line of its own."""


class Mutex(Transferable, _theirs.SemLock):  # type: ignore[misc] # a standard class
    """What `Lock` and `RLock` have in common: the core's methods, bound when the lock is made."""

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

        def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
        def recover(self, block: bool = True, timeout: float | None = None) -> bool: ...
        def release(self) -> None: ...
        def locked(self) -> bool: ...
        def __enter__(self) -> bool: ...
        def __exit__(self, *args: object) -> None: ...

    _recursive = False
    _is_fork_ctx = False
    _semlock: _core.Lock

    def __init__(
        self, *, ctx: Any = None, on_abandon: str = "warn", detect_deadlocks: bool = False
    ) -> None:
        self._settle(Spot(SIZE), 0, _mode(on_abandon), detect_deadlocks)

    def _settle(self, spot: Spot, offset: int, mode: int, detects: bool) -> None:
        lock = _core.Lock(spot, offset, self._recursive, mode, detects)
        remember(lock)
        self._semlock = lock
        acquire, release, enter, leave = lock.quick()
        bind(self, Mutex, acquire=acquire, release=release, __enter__=enter, __exit__=leave)
        bind(self, Mutex, recover=lock.recover, locked=lock.locked)

    @classmethod
    def _at(cls: type[L], spot: Spot, offset: int, mode: int = 0, detects: bool = False) -> L:
        """Make this process's view of a lock that lies there already."""
        lock = cls.__new__(cls)
        lock._settle(spot, offset, mode, detects)
        return lock

    @property
    def _place(self) -> tuple[Spot, int, int, bool]:
        spot, offset, _, mode, detects = self._semlock.place
        return spot, offset, mode, detects

    @property
    def abandoned(self) -> bool:
        """Whether it was taken, here and the last time, from a process that had died holding it."""
        return self._semlock.abandoned

    def __reduce__(self) -> tuple[Any, ...]:
        assert_transfer(self)
        return _rebuild, (type(self), *self._place)


def _rebuild(kind: type[L], *place: Any) -> L:
    return kind._at(*place)


let_travel(_core.Lock, remember)


def _mode(on_abandon: str) -> int:
    if on_abandon not in MODES:
        msg = f"on_abandon must be one of {', '.join(map(repr, MODES))}, not {on_abandon!r}"
        raise ValueError(msg)
    return MODES.index(on_abandon)


class Lock(Mutex, _theirs.Lock):  # type: ignore[misc] # as above
    """A lock between processes that survives its owner.

    As `multiprocessing.Lock`: one process at a time has it, and any process may release it. Where
    the owner dies, the next one to acquire the lock gets it, within 110 ms, and is told so.

    Parameters
    ----------
    on_abandon : {'warn', 'raise', 'ignore'}
        What happens to who acquires the lock after its owner has died holding it. ``'warn'``: it
        has the lock, `abandoned` is true and an `AbandonedLock` warning is given. ``'raise'``: it
        does not have the lock, and `OwnerDied` is raised, now and for everybody, until somebody
        takes it with ``recover()`` and releases it. ``'ignore'``: it has the lock.
    detect_deadlocks : bool
        Whether a wait that can never end, because each of some processes or threads waits for a
        lock that the next one holds, is ended with `DeadlockError` in one of them. All the locks
        concerned must be made with it, and be released by who took them, as in a ``with``;
        taking one costs a microsecond more.

    Examples
    --------
    >>> from garrison import Lock
    >>> lock = Lock()
    >>> with lock:
    ...     lock.acquire(timeout=0.01)
    False
    """

    __slots__ = ()


class RLock(Mutex, _theirs.RLock):  # type: ignore[misc] # as above
    """A lock that its owner may take again; see `Lock`.

    It must be released as often as it was taken, by the thread that took it.
    """

    __slots__ = ()
    _recursive = True


WITHOUT = "it is a word in shared memory, not a named semaphore"
KEPT = ("_rand", "_make_name", "_cleanup")
"""Attributes of the standard class that do nothing to an instance."""

for _each in (Lock, RLock):
    _standard.hide(_each, WITHOUT, KEPT)
del _each
