"""The client of a server in its own process: calls its objects directly."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager._types import ObjectRef
from garrison.net import Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.server._object_table import Objects

__all__ = ["InProcessClient"]


class InProcessClient:
    """The objects of a server, in the server."""

    name = b"server"

    def __init__(self, objects: Objects, stop: Callable[[], object]) -> None:
        self._objects = objects
        self.shutdown = stop

    def connect(self) -> None:
        """Be there already."""

    def ask(self, verb: int, *_: Any, **__: Any) -> list[Any]:
        """Answer what a manager asks of its own server."""
        return [len(self._objects) if verb == Verb.COUNT else self._objects.debug_info()]

    def create(self, typeid: str, args: Any, kwds: Any) -> ObjectRef:
        """Make an object."""
        return self._objects.create(self.name, typeid, args, kwds)

    def call(
        self, ident: str, method: str, args: Any, kwds: Any
    ) -> tuple[Any, ObjectRef | None, Any]:
        """Call a method in this thread."""
        result = self._objects.call(self.name, ident, method, args, kwds)
        if isinstance(result, ObjectRef):
            return None, result, self._objects.proxytype(result.typeid)
        return result, None, None

    def hold(self, ident: str) -> None:
        """Keep an object for one more proxy."""
        self._objects.hold(self.name, ident)

    def drop(self, ident: str) -> None:
        """A proxy is gone."""
        self._objects.drop(self.name, ident)

    def send(self, ident: str) -> bytes:
        """Keep an object until somebody has received what is being written about it."""
        self._objects.hold((self.name, "sent"), ident)
        return self.name

    def received(self, ident: str, sender: bytes) -> None:
        """Keep an object that another process has sent."""
        self._objects.hold(self.name, ident)
        self._objects.drop((sender, "sent"), ident)

    def methods(self, ident: str) -> tuple[str, ...]:
        """Return the names of what can be called."""
        return tuple(sorted(self._objects.find(ident).exposed))
