"""The client of a server in its own process: calls its objects directly."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager._types import ObjectRef
from garrison.net import Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.server._object_table import ObjectTable

__all__ = ["InProcessClient"]


class InProcessClient:
    """The objects of a server, in the server."""

    client_id = b"server"

    def __init__(self, objects: ObjectTable, stop: Callable[[], object]) -> None:
        self._objects = objects
        self.shutdown = stop

    def connect(self) -> None:
        """Do nothing: the server is in this process."""

    def ask(self, verb: int, *_: Any, **__: Any) -> list[Any]:
        """Carry out a request of a manager to its own server."""
        return [len(self._objects) if verb == Verb.COUNT else self._objects.debug_info()]

    def create(self, typeid: str, args: Any, kwds: Any) -> ObjectRef:
        """Make an object."""
        return self._objects.create(self.client_id, typeid, args, kwds)

    def call(
        self, ident: str, method: str, args: Any, kwds: Any
    ) -> tuple[Any, ObjectRef | None, Any]:
        """Call a method in this thread."""
        result = self._objects.call(self.client_id, ident, method, args, kwds)
        if isinstance(result, ObjectRef):
            return None, result, self._objects.proxytype(result.typeid)
        return result, None, None

    def acquire_ref(self, ident: str) -> None:
        """Add a reference to an object."""
        self._objects.acquire_ref(self.client_id, ident)

    def release_ref(self, ident: str) -> None:
        """Release a reference."""
        self._objects.release_ref(self.client_id, ident)

    def begin_transfer(self, ident: str) -> bytes:
        """Keep an object until the receiver of a pickled proxy has confirmed."""
        self._objects.acquire_ref((self.client_id, "sent"), ident)
        return self.client_id

    def confirm_transfer(self, ident: str, sender: bytes) -> None:
        """Add a reference to an object that another process has sent."""
        self._objects.acquire_ref(self.client_id, ident)
        self._objects.release_ref((sender, "sent"), ident)

    def methods(self, ident: str) -> tuple[str, ...]:
        """Return the names of the exposed methods."""
        return tuple(sorted(self._objects.find(ident).exposed))
