"""The types that servers and clients share, and the servers of this process."""

from __future__ import annotations

import os
from typing import NamedTuple

from garrison._typing import Any

__all__ = ["IN_PROCESS_CLIENTS", "ObjectRef"]


class ObjectRef(NamedTuple):
    """Identifies an object of a server."""

    typeid: str
    ident: str
    exposed: tuple[str, ...]


IN_PROCESS_CLIENTS: dict[Any, Any] = {}
"""The client, without a socket, of each server that runs in this process, by address."""

os.register_at_fork(after_in_child=IN_PROCESS_CLIENTS.clear)
