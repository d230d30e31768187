"""The names of `multiprocessing.managers`."""

from __future__ import annotations

from garrison import _standard, manager
from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any
from garrison.manager import (
    AcquirerProxy,
    ArrayProxy,
    AutoProxy,
    BarrierProxy,
    BaseListProxy,
    BaseManager,
    BasePoolProxy,
    BaseProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    IteratorProxy,
    ListProxy,
    MakeProxyType,
    NamespaceProxy,
    PoolProxy,
    RebuildProxy,
    RemoteError,
    Server,
    SharedMemoryManager,
    SharedMemoryServer,
    SyncManager,
    Token,
    ValueProxy,
    public_methods,
)

_parts = manager.PARTS  # loaded with this module: see there
Array: Any = managers.Array
Namespace: Any = managers.Namespace
Value: Any = managers.Value

__all__ = [
    "AcquirerProxy",
    "Array",
    "ArrayProxy",
    "AutoProxy",
    "BarrierProxy",
    "BaseListProxy",
    "BaseManager",
    "BasePoolProxy",
    "BaseProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "IteratorProxy",
    "ListProxy",
    "MakeProxyType",
    "Namespace",
    "NamespaceProxy",
    "PoolProxy",
    "RebuildProxy",
    "RemoteError",
    "Server",
    "SharedMemoryManager",
    "SharedMemoryServer",
    "SyncManager",
    "Token",
    "Value",
    "ValueProxy",
    "public_methods",
]

for _name in __all__:
    _each: Any = globals()[_name]
    if _each.__module__.startswith("garrison.manager."):
        _each.__module__ = __name__
del _name, _each, managers

if not TYPE_CHECKING:
    __getattr__, __dir__ = _standard.mirror(__name__, globals())
