"""Tasks of a cluster's pool, and the functions that they call, as the driver keeps them."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.cluster._results import is_lost
from garrison.pool.backends import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.engines.cluster._blobs import Blob
    from garrison.options import Options

__all__ = ["ClusterTask", "Function", "Functions", "Job", "Registered"]


class Function:
    """A function that was registered, with its pickle: a node gets it with its first task."""

    __slots__ = ("name", "number", "pickled")

    def __init__(self, number: int, pickled: bytes, name: str) -> None:
        self.number, self.pickled, self.name = number, pickled, name


class Registered:
    """A function as `register` returns it: with the shared objects that it refers to.

    They live as long as this, or a task with it, does: the function itself is kept longer, in case
    that it is used again.
    """

    __slots__ = ("blobs", "function", "size")

    def __init__(self, function: Function, blobs: tuple[Blob, ...], size: int) -> None:
        self.function, self.blobs, self.size = function, blobs, size


class Functions:
    """The functions of a registry, as its `FunctionStore`."""

    def __init__(self, forgotten: Callable[[int], None]) -> None:
        self.pickles: dict[int, bytes] = {}
        self.known: dict[int, Function] = {}
        self._forgotten = forgotten

    def add_function(self, number: int, pickled: bytes) -> None:
        """Keep a function."""
        self.pickles[number] = pickled

    def forget_function(self, number: int) -> None:
        """Let a function go: tasks that have it keep it."""
        self.pickles.pop(number, None)
        self.known.pop(number, None)
        self._forgotten(number)


class Job:
    """What a node needs for a task."""

    __slots__ = ("attempts", "blobs", "buffers", "data", "function", "kind", "options")

    def __init__(
        self,
        function: Function,
        kind: int,
        encoded: tuple[Any, list[Any] | None],
        blobs: tuple[Blob, ...],
        options: Options,
    ) -> None:
        self.function, self.kind, self.blobs, self.options = function, kind, blobs, options
        self.data, self.buffers = encoded
        self.attempts = 0


class ClusterTask(Task):
    """A task, which keeps the results of single items if its worker is lost."""

    __slots__ = ()

    def lost(self) -> bool:
        """Whether its worker ended, on a node that goes on."""
        return self.result is not None and is_lost(self.result)
