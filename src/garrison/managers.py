"""The names of `multiprocessing.managers`."""

from __future__ import annotations

from garrison import _standard
from garrison._standard import managers
from garrison._typing import Any
from garrison.manager import (
    AutoProxy,
    BaseManager,
    BaseProxy,
    MakeProxyType,
    RebuildProxy,
    RemoteError,
    Server,
    SyncManager,
    Token,
    public_methods,
)
from garrison.manager._shared_memory_manager import SharedMemoryManager, SharedMemoryServer
from garrison.manager.client._standard_proxies import (
    AcquirerProxy,
    ArrayProxy,
    BarrierProxy,
    BaseListProxy,
    BasePoolProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    IteratorProxy,
    ListProxy,
    NamespaceProxy,
    PoolProxy,
    ValueProxy,
)

Array, Namespace, Value = managers.Array, managers.Namespace, managers.Value

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

__getattr__, __dir__ = _standard.mirror(__name__, globals())
