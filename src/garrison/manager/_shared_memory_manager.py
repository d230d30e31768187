"""`SharedMemoryManager`: blocks of shared memory that end with their manager."""

from __future__ import annotations

import contextlib
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from garrison.manager._base import BaseManager, State
from garrison.manager._server import Server
from garrison.memory import shared_memory as blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["SharedMemoryManager", "SharedMemoryServer"]


class Segments:
    """The names of the blocks that a manager has made; lives in the server."""

    def __init__(self) -> None:
        self._names: list[str] = []
        _all.append(self)

    def track(self, name: str) -> None:
        """Remove that block at the end."""
        self._names.append(name)

    def release(self, name: str) -> None:
        """Remove that block now."""
        self._names.remove(name)
        _unlink(name)

    def names(self) -> list[str]:
        """Return the names of all blocks."""
        return list(self._names)

    def unlink(self) -> None:
        """Remove all blocks."""
        while self._names:
            _unlink(self._names.pop())


_all: list[Segments] = []
"""Those of this server."""


def _unlink(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        block = blocks.SharedMemory(name)
        block.close()
        block.unlink()


class SharedMemoryServer(Server):
    """A server that removes, when it ends, the blocks it knows of."""

    def run(self, parent: int | None = None, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until it is over."""
        try:
            super().run(parent, ready)
        finally:
            for segments in _all:
                segments.unlink()


class SharedMemoryManager(BaseManager):
    """Makes blocks of shared memory that are removed when the manager ends.

    As `multiprocessing.managers.SharedMemoryManager`.

    Examples
    --------
    >>> from garrison.managers import SharedMemoryManager
    >>> with SharedMemoryManager() as manager:
    ...     numbers = manager.ShareableList([1, 2, 3])
    ...     sum(numbers)
    6
    """

    _Server = SharedMemoryServer

    def start(self, *args: Any, **kwds: Any) -> None:
        """Start the server process; see `BaseManager.start`."""
        # The process that removes blocks nobody has removed must be the same one for both.
        resource_tracker.ensure_running()
        super().start(*args, **kwds)
        self._segments: Any = self._Segments()  # type: ignore[attr-defined]

    def connect(self) -> None:
        """Find the server at this manager's address."""
        super().connect()
        self._segments = self._Segments()  # type: ignore[attr-defined]

    def _check_started(self) -> None:
        if self._state.value != State.STARTED:
            raise ValueError(
                "this SharedMemoryManager has not been started: call start(), or use with"
            )

    def SharedMemory(self, size: int) -> Any:  # noqa: N802 - the standard name
        """Return a block of `size` bytes.

        Raises
        ------
        ValueError
            If the manager is not started.
        """
        self._check_started()
        block = blocks.SharedMemory(None, create=True, size=size)
        return self._tracked(block, block)

    def ShareableList(self, sequence: Iterable[Any]) -> Any:  # noqa: N802 - the standard name
        """Return a list in a block of its own.

        Raises
        ------
        ValueError
            If the manager is not started.
        """
        self._check_started()
        made = blocks.ShareableList(sequence)
        return self._tracked(made, made.shm)

    def _tracked(self, made: Any, block: blocks.SharedMemory) -> Any:
        try:
            self._segments.track(block.name)
        except BaseException:
            block.unlink()
            raise
        return made


SharedMemoryManager.register("_Segments", Segments)
