"""Numbers and arrays under a lock."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

class SynchronizedBase:
    """A ctypes object in shared memory, and the lock under which it is used.

    ``with`` takes the lock, as do ``acquire`` and ``release``; ``get_obj()`` gives the ctypes
    object, which is used without it. The lock may be any object with these two methods.
    """

    def __new__(cls, obj: Any, lock: Any = None, ctx: Any = None) -> Any: ...
    def get_obj(self) -> Any:
        """Return the ctypes object, which is used without the lock."""

    def get_lock(self) -> Any:
        """Return the lock."""

    @property
    def _obj(self) -> Any:
        """The ctypes object."""

    @property
    def _lock(self) -> Any:
        """The lock."""

    acquire: Callable[..., bool]
    release: Callable[[], None]
    def __enter__(self) -> bool: ...
    def __exit__(self, *args: object) -> None: ...

class Synchronized(SynchronizedBase, Generic[_T]):
    """A value in shared memory, as `Value` returns it.

    Attributes
    ----------
    value
        Read and written under the lock.

    Notes
    -----
    ``add``, ``exchange``, ``compare_exchange``, ``load`` and ``store`` are single steps, for
    integers and floats. They neither take the lock nor wait for it: its owner sees the value
    change meanwhile. Use them alone, or the lock alone. A sum that is out of the type's range
    wraps around.
    """

    value: _T
    def add(self, amount: _T) -> _T:
        """Add atomically, without the lock; return the value before."""

    def exchange(self, value: _T) -> _T:
        """Replace atomically, without the lock; return the value before."""

    def compare_exchange(self, expected: _T, desired: _T) -> bool:
        """Replace atomically if it is what is expected; return whether it was."""

    def load(self) -> _T:
        """Read atomically, without the lock."""

    def store(self, value: _T) -> None:
        """Write atomically, without the lock."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

class SynchronizedArray(SynchronizedBase, Generic[_T]):
    """An array in shared memory, as `Array` returns it.

    Notes
    -----
    ``add(index, amount)``, ``exchange(index, value)``, ``compare_exchange(index, expected,
    desired)``, ``load(index)`` and ``store(index, value)`` are those of `Synchronized`, for one
    element.
    """

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...
    def add(self, index: int, amount: _T) -> _T:
        """Add to an element atomically, without the lock; return the value before."""

    def exchange(self, index: int, value: _T) -> _T:
        """Replace an element atomically, without the lock; return the value before."""

    def compare_exchange(self, index: int, expected: _T, desired: _T) -> bool:
        """Replace an element atomically if it is what is expected; return whether it was."""

    def load(self, index: int) -> _T:
        """Read an element atomically, without the lock."""

    def store(self, index: int, value: _T) -> None:
        """Write an element atomically, without the lock."""

    def __buffer__(self, flags: int, /) -> memoryview: ...
