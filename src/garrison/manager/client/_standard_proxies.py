"""Proxy types for the plain objects that managers are often registered with.

The standard library's classes with garrison's client, and with the methods of newer Pythons. The
shared containers of `SyncManager` are instances of them, though they are no objects of a server.
"""

from __future__ import annotations

from garrison import store
from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any, ClassVar
from garrison.manager.client._proxy import BaseProxy, MakeProxyType

__all__ = [
    "AcquirerProxy",
    "ArrayProxy",
    "BarrierProxy",
    "BaseListProxy",
    "BasePoolProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "IteratorProxy",
    "ListProxy",
    "NamespaceProxy",
    "PoolProxy",
    "ValueProxy",
]


class IteratorProxy(managers.IteratorProxy, BaseProxy):
    """An iterator."""


class AcquirerProxy(managers.AcquirerProxy, BaseProxy):
    """A lock or a semaphore."""

    _exposed_: Any = ("acquire", "release", "locked")

    def locked(self) -> Any:
        """Whether it is held."""
        return self._callmethod("locked")


class ConditionProxy(managers.ConditionProxy, AcquirerProxy):
    """A condition."""

    _exposed_ = ("acquire", "release", "locked", "wait", "notify", "notify_all")


class EventProxy(managers.EventProxy, BaseProxy):
    """An event."""


class BarrierProxy(managers.BarrierProxy, BaseProxy):
    """A barrier."""


class NamespaceProxy(managers.NamespaceProxy, BaseProxy):
    """An object with attributes; those that begin with an underscore are the proxy's."""


class ValueProxy(managers.ValueProxy, BaseProxy):
    """An object with a value."""


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

if TYPE_CHECKING:
    import multiprocessing.managers
    import multiprocessing.pool

    class _BaseDict(BaseProxy, multiprocessing.managers.DictProxy[Any, Any]):
        """Has the methods of a dict."""

    class BaseListProxy(BaseProxy, multiprocessing.managers.BaseListProxy[Any]):
        """Has the methods of a list."""

    class BasePoolProxy(BaseProxy, multiprocessing.pool.Pool):
        """Has the methods of a pool."""

else:
    _BaseDict = MakeProxyType("DictProxy", _DICT)
    BaseListProxy = MakeProxyType("BaseListProxy", _LIST)
    BasePoolProxy = MakeProxyType("PoolProxy", _POOL)


class DictProxy(managers.DictProxy, _BaseDict):
    """A plain dict; its items are copied."""

    _exposed_ = _DICT
    _method_to_typeid_: ClassVar = {"__iter__": "Iterator"}

    def __ior__(self, other: Any) -> DictProxy:
        self._callmethod("__ior__", (other,))
        return self


class ListProxy(managers.ListProxy, BaseListProxy):
    """A plain list; its items are copied."""

    _exposed_ = _LIST

    def __imul__(self, other: Any) -> ListProxy:  # type: ignore[misc,override] # the proxy itself
        self._callmethod("__imul__", (other,))
        return self


class PoolProxy(managers.PoolProxy, BasePoolProxy):
    """A pool."""


class ArrayProxy(managers.ArrayProxy, BaseProxy):
    """An array."""


_CONTAINERS = {
    BaseProxy: (store.Counter, store.Deque, store.JoinableQueue, store.Queue, store.Set),
    DictProxy: (store.Dict,),
    ListProxy: (store.List,),
    NamespaceProxy: (store.Namespace,),
    ValueProxy: (store.Value,),
    ArrayProxy: (store.Array,),
}
for _proxy, _classes in _CONTAINERS.items():
    for _class in _classes:
        _proxy.register(_class)
del _proxy, _classes, _class
