"""Proxy types for the plain objects that managers are often registered with.

`SyncManager` itself needs none of them but those of its pool: its containers are shared memory.
"""

from __future__ import annotations

from typing import Any, ClassVar

from garrison.manager._proxy import BaseProxy, MakeProxyType
from garrison.sync._condition import wait_for

__all__ = [
    "AcquirerProxy",
    "ArrayProxy",
    "BarrierProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "IteratorProxy",
    "ListProxy",
    "NamespaceProxy",
    "PoolProxy",
    "ValueProxy",
]


class IteratorProxy(BaseProxy):
    """Stands for an iterator."""

    _exposed_ = ("__next__", "send", "throw", "close")

    def __iter__(self) -> IteratorProxy:
        return self

    def __next__(self, *args: Any) -> Any:
        return self._callmethod("__next__", args)

    def send(self, *args: Any) -> Any:
        """Send a value into the generator."""
        return self._callmethod("send", args)

    def throw(self, *args: Any) -> Any:
        """Raise an exception in the generator."""
        return self._callmethod("throw", args)

    def close(self, *args: Any) -> Any:
        """Close the generator."""
        return self._callmethod("close", args)


class AcquirerProxy(BaseProxy):
    """Stands for a lock or a semaphore."""

    _exposed_: tuple[str, ...] = ("acquire", "release", "locked")

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> Any:
        """Take it; return whether it was had in time."""
        args = (blocking,) if timeout is None else (blocking, timeout)
        return self._callmethod("acquire", args)

    def release(self) -> None:
        """Give it back."""
        self._callmethod("release")

    def locked(self) -> Any:
        """Whether somebody has it."""
        return self._callmethod("locked")

    def __enter__(self) -> Any:
        return self._callmethod("acquire")

    def __exit__(self, *_: object) -> None:
        self._callmethod("release")


class ConditionProxy(AcquirerProxy):
    """Stands for a condition."""

    _exposed_ = ("acquire", "release", "locked", "wait", "notify", "notify_all")

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until notified."""
        return self._callmethod("wait", (timeout,))

    def notify(self, n: int = 1) -> Any:
        """Let `n` of those who wait go on."""
        return self._callmethod("notify", (n,))

    def notify_all(self) -> Any:
        """Let all who wait go on."""
        return self._callmethod("notify_all")

    def wait_for(self, predicate: Any, timeout: float | None = None) -> Any:
        """Wait until `predicate` is true, and return what it gave last."""
        return wait_for(self.wait, predicate, timeout)


class EventProxy(BaseProxy):
    """Stands for an event."""

    _exposed_ = ("is_set", "set", "clear", "wait")

    def is_set(self) -> Any:
        """Whether it is set."""
        return self._callmethod("is_set")

    def set(self) -> Any:
        """Set it."""
        return self._callmethod("set")

    def clear(self) -> Any:
        """Clear it."""
        return self._callmethod("clear")

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until it is set."""
        return self._callmethod("wait", (timeout,))


class BarrierProxy(BaseProxy):
    """Stands for a barrier."""

    _exposed_ = ("__getattribute__", "wait", "abort", "reset")

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for the others."""
        return self._callmethod("wait", (timeout,))

    def abort(self) -> Any:
        """Break it."""
        return self._callmethod("abort")

    def reset(self) -> Any:
        """Begin anew."""
        return self._callmethod("reset")

    @property
    def parties(self) -> Any:
        """How many pass together."""
        return self._callmethod("__getattribute__", ("parties",))

    @property
    def n_waiting(self) -> Any:
        """How many have come."""
        return self._callmethod("__getattribute__", ("n_waiting",))

    @property
    def broken(self) -> Any:
        """Whether it is broken."""
        return self._callmethod("__getattribute__", ("broken",))


class NamespaceProxy(BaseProxy):
    """Stands for an object with attributes; those that begin with an underscore are the proxy's."""

    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__")

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            return object.__getattribute__(self, key)
        return self._callmethod("__getattribute__", (key,))

    def __setattr__(self, key: str, value: Any) -> None:
        if key.startswith("_"):
            object.__setattr__(self, key, value)
        else:
            self._callmethod("__setattr__", (key, value))

    def __delattr__(self, key: str) -> None:
        if key.startswith("_"):
            object.__delattr__(self, key)
        else:
            self._callmethod("__delattr__", (key,))


class ValueProxy(BaseProxy):
    """Stands for an object with a value."""

    _exposed_ = ("get", "set")

    def get(self) -> Any:
        """Return the value."""
        return self._callmethod("get")

    def set(self, value: Any) -> Any:
        """Put another value in its place."""
        return self._callmethod("set", (value,))

    @property
    def value(self) -> Any:
        """The value."""
        return self.get()

    @value.setter
    def value(self, value: Any) -> None:
        self.set(value)


_DICT = (
    *("__contains__", "__delitem__", "__getitem__", "__ior__", "__iter__", "__len__", "__or__"),
    *("__reversed__", "__ror__", "__setitem__", "clear", "copy", "fromkeys", "get", "items"),
    *("keys", "pop", "popitem", "setdefault", "update", "values"),
)
_LIST = (
    *("__add__", "__contains__", "__delitem__", "__getitem__", "__len__", "__mul__"),
    *("__reversed__", "__rmul__", "__setitem__", "append", "clear", "copy", "count", "extend"),
    *("index", "insert", "pop", "remove", "reverse", "sort", "__imul__", "__iadd__"),
)
_POOL = (
    *("apply", "apply_async", "close", "imap", "imap_unordered", "join"),
    *("map", "map_async", "starmap", "starmap_async", "terminate"),
)

_BaseDict: Any = MakeProxyType("DictProxy", _DICT)
_BaseList: Any = MakeProxyType("ListProxy", _LIST)
_BasePool: Any = MakeProxyType("PoolProxy", _POOL)


class DictProxy(_BaseDict):  # type: ignore[misc] # made above
    """Stands for a plain dict; what it holds is copied."""

    _method_to_typeid_: ClassVar = {"__iter__": "Iterator"}

    def __ior__(self, other: Any) -> DictProxy:
        self._callmethod("__ior__", (other,))
        return self


class ListProxy(_BaseList):  # type: ignore[misc] # made above
    """Stands for a plain list; what it holds is copied."""

    def __iadd__(self, other: Any) -> ListProxy:
        self._callmethod("extend", (other,))
        return self

    def __imul__(self, other: Any) -> ListProxy:
        self._callmethod("__imul__", (other,))
        return self


ArrayProxy: Any = MakeProxyType("ArrayProxy", ("__len__", "__getitem__", "__setitem__"))


class PoolProxy(_BasePool):  # type: ignore[misc] # made above
    """Stands for a pool."""

    _method_to_typeid_: ClassVar = {
        "apply_async": "AsyncResult",
        "map_async": "AsyncResult",
        "starmap_async": "AsyncResult",
        "imap": "Iterator",
        "imap_unordered": "Iterator",
    }

    def __enter__(self) -> PoolProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()
