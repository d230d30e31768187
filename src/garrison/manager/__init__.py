"""One process is the server that holds things; others reach them, from here or from afar."""

from __future__ import annotations

from garrison.manager._base import BaseManager
from garrison.manager._remote_errors import RemoteError
from garrison.manager._sync_manager import SyncManager
from garrison.manager.client._proxy import AutoProxy, BaseProxy, MakeProxyType, RebuildProxy, Token
from garrison.manager.server._object_table import public_methods
from garrison.manager.server._server import Server

__all__ = [
    "AutoProxy",
    "BaseManager",
    "BaseProxy",
    "MakeProxyType",
    "RebuildProxy",
    "RemoteError",
    "Server",
    "SyncManager",
    "Token",
    "public_methods",
]
