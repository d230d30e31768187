"""Managers: a server process that holds containers, locks and objects, and its clients."""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from garrison.manager._auth_keys import NO_KEY, is_loopback, read_key, write_key
    from garrison.manager._base import BaseManager
    from garrison.manager._connect import (
        SCHEME,
        connect,
        is_valkey_url,
        parse_address,
        place_of,
        valkey_manager,
    )
    from garrison.manager._parts import PARTS
    from garrison.manager._remote_errors import RemoteError
    from garrison.manager._shared_memory_manager import SharedMemoryManager, SharedMemoryServer
    from garrison.manager._sync_manager import ManagerOptions as ManagerOptions
    from garrison.manager._sync_manager import SyncManager
    from garrison.manager.client._proxy import (
        AutoProxy,
        BaseProxy,
        MakeProxyType,
        RebuildProxy,
        Token,
    )
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
    from garrison.manager.server._object_table import public_methods
    from garrison.manager.server._server import Server

__all__ = [
    "NO_KEY",
    "PARTS",
    "SCHEME",
    "AcquirerProxy",
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
    "NamespaceProxy",
    "PoolProxy",
    "RebuildProxy",
    "RemoteError",
    "Server",
    "SharedMemoryManager",
    "SharedMemoryServer",
    "SyncManager",
    "Token",
    "ValueProxy",
    "connect",
    "is_loopback",
    "is_valkey_url",
    "parse_address",
    "place_of",
    "public_methods",
    "read_key",
    "valkey_manager",
    "write_key",
]

_HOMES = {
    "_auth_keys": ("NO_KEY", "is_loopback", "read_key", "write_key"),
    "_base": ("BaseManager",),
    "_connect": (
        "SCHEME",
        "connect",
        "is_valkey_url",
        "parse_address",
        "place_of",
        "valkey_manager",
    ),
    "_parts": ("PARTS",),
    "_remote_errors": ("RemoteError",),
    "_shared_memory_manager": ("SharedMemoryManager", "SharedMemoryServer"),
    "_sync_manager": ("SyncManager",),
    "client._proxy": ("AutoProxy", "BaseProxy", "MakeProxyType", "RebuildProxy", "Token"),
    "client._standard_proxies": (
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
    ),
    "server._object_table": ("public_methods",),
    "server._server": ("Server",),
}
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, globals(), _HOMES)
