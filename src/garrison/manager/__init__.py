"""One process is the server that holds things; others reach them, from here or from afar."""

from __future__ import annotations

from garrison.manager._base import BaseManager
from garrison.manager._objects import public_methods
from garrison.manager._proxy import AutoProxy, BaseProxy, MakeProxyType, RebuildProxy, Token
from garrison.manager._refusals import RemoteError
from garrison.manager._server import Server
from garrison.manager._sync_manager import SyncManager

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
