"""What the server and its clients both know of an object, and the servers of this process."""

from __future__ import annotations

import os
from typing import NamedTuple

from garrison._typing import Any

__all__ = ["IN_PROCESS_CLIENTS", "ObjectRef"]


class ObjectRef(NamedTuple):
    """What a process must know to reach an object of a server."""

    typeid: str
    ident: str
    exposed: tuple[str, ...]


IN_PROCESS_CLIENTS: dict[Any, Any] = {}
"""For each server that runs in this process, by its address: the client that needs no socket."""

os.register_at_fork(after_in_child=IN_PROCESS_CLIENTS.clear)
