"""Tasks of a cluster's pool, and the functions that they call, as the driver keeps them."""

from __future__ import annotations

import weakref

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.cluster._results import is_lost
from garrison.pool.backends import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.engines.cluster._blobs import Blob
    from garrison.options import Options

__all__ = ["ClusterTask", "Function", "Functions", "Job", "Registered"]


class Function:
    """A function that was registered, with its pickle: a node gets it with its first task.

    It lives as long as the registry knows it, or a task has it.
    """

    __slots__ = ("__weakref__", "name", "number", "pickled")

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
    """The functions of a registry, as its `FunctionStore`.

    Parameters
    ----------
    forgotten : callable
        Called with the number of a function that no task will have any more.
    """

    def __init__(self, forgotten: Callable[[int], None]) -> None:
        self._pickles: dict[int, bytes] = {}
        self._known: dict[int, Function] = {}
        self._forgotten = forgotten

    def add_function(self, number: int, pickled: bytes) -> None:
        """Keep a function."""
        self._pickles[number] = pickled

    def forget_function(self, number: int) -> None:
        """Let a function go: tasks that have it keep it, and nodes keep it for them."""
        self._pickles.pop(number, None)
        self._known.pop(number, None)

    def function(self, number: int, name: Callable[[int], str]) -> Function:
        """Return the function of a number; `name` returns its name."""
        found = self._known.get(number)
        if found is None:
            found = Function(number, self._pickles[number], name(number))
            weakref.finalize(found, self._forgotten, number).atexit = False
            self._known[number] = found
        return found


class Job:
    """What a node needs for a task, and how its attempts have ended."""

    __slots__ = (
        "_deaths",
        "_item",
        "_losses",
        "_with_nodes",
        "blobs",
        "buffers",
        "data",
        "function",
        "kind",
        "options",
    )

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
        self._losses = self._with_nodes = self._deaths = 0
        self._item: int | None = None

    def has_attempt_after_loss(self, items: int, item: int | None) -> bool:
        """Charge a loss to the item at work, or to all if that is unknown; whether to try again.

        As in a pool of processes each item of a chunk has its own `retries`, and the chunk their
        sum.
        """
        self._losses += 1
        if item is None:
            self._with_nodes += 1
        elif item == self._item:
            self._deaths += 1
        else:
            self._item, self._deaths = item, 1
        retries = self.options.retries
        within = self._with_nodes + self._deaths <= retries
        return within and self._losses <= retries * max(1, items)


class ClusterTask(Task):
    """A task, which keeps the results of single items if its worker is lost."""

    __slots__ = ()

    def lost(self) -> bool:
        """Whether its worker ended, on a node that goes on."""
        return self.result is not None and is_lost(self.result)
