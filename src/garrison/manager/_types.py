"""The types that servers and clients share, and the servers of this process."""

from __future__ import annotations

import os
from typing import NamedTuple

from garrison._typing import TYPE_CHECKING, Any

__all__ = ["IN_PROCESS_CLIENTS", "ObjectRef", "RegisteredType"]


class ObjectRef(NamedTuple):
    """Identifies an object of a server."""

    typeid: str
    ident: str
    exposed: tuple[str, ...]


class RegisteredType(NamedTuple):
    """A registered type, in the standard library's order of fields."""

    callable: Callable[..., Any] | None
    exposed: tuple[str, ...] | None
    method_to_typeid: Mapping[str, str] | None
    proxytype: Any


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class ObjectClient(Protocol):
        """A process's way to the objects of a server: by a connection, or in the server itself."""

        @property
        def client_id(self) -> bytes:
            """Under which this process holds objects there."""

        def connect(self) -> None:
            """See whether the server is there, and has the same key."""

        def shutdown(self) -> object:
            """Tell the server to end."""

        def ask(self, verb: int, *fields: Any, idempotent: bool = False) -> list[Any]:
            """Ask the server for something."""

        def create(self, typeid: str, args: Any, kwds: Any) -> ObjectRef:
            """Make an object; this process holds it."""

        def call(
            self, ident: str, method: str, args: Any, kwds: Any
        ) -> tuple[Any, ObjectRef | None, Any]:
            """Call a method: its result, or what was made of it and what makes a proxy of that."""

        def acquire_ref(self, ident: str) -> None:
            """Keep an object for one more proxy."""

        def release_ref(self, ident: str) -> None:
            """Release the object of a proxy that is gone."""

        def begin_transfer(self, ident: str) -> bytes:
            """Keep an object until its receiver has it; return this process's id."""

        def confirm_transfer(self, ident: str, sender: bytes) -> None:
            """Keep an object that another process has sent."""

        def methods(self, ident: str) -> tuple[str, ...]:
            """Return the names of what can be called."""


IN_PROCESS_CLIENTS: dict[Any, ObjectClient] = {}
"""The client, without a socket, of each server that runs in this process, by address."""

os.register_at_fork(after_in_child=IN_PROCESS_CLIENTS.clear)
