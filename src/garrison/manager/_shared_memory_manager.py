"""`SharedMemoryManager`: blocks of shared memory that end with their manager."""

from __future__ import annotations

import contextlib
from multiprocessing import resource_tracker

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any
from garrison.manager._base import BaseManager, State
from garrison.manager.server._server import Server
from garrison.memory import shared_memory as blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["SharedMemoryManager", "SharedMemoryServer"]


class _TrackedBlocks:
    """The names of the blocks that a manager has made; it is an object of the server."""

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


_all: list[_TrackedBlocks] = []
"""The blocks of this server."""


def _unlink(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        block = blocks.SharedMemory(name)
        block.close()
        block.unlink()


class SharedMemoryServer(Server, managers.SharedMemoryServer):
    """A server that removes its blocks when it ends."""

    def run(self, parent: int | None = None, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until it is over."""
        try:
            super().run(parent, ready)
        finally:
            for segments in _all:
                segments.unlink()

    def track_segment(self, c: Any, segment_name: str) -> None:  # noqa: ARG002 - as there
        """Remove that block at the end."""
        _TrackedBlocks().track(segment_name)

    def release_segment(self, c: Any, segment_name: str) -> None:  # noqa: ARG002 - as there
        """Remove that block now."""
        for segments in _all:
            if segment_name in segments.names():
                segments.release(segment_name)

    def list_segments(self, c: Any) -> list[str]:  # noqa: ARG002 - as there
        """Return the names of all blocks."""
        return [name for segments in _all for name in segments.names()]


class SharedMemoryManager(BaseManager, managers.SharedMemoryManager):
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

    def __init__(self, *args: Any, **kwds: Any) -> None:
        BaseManager.__init__(self, *args, **kwds)

    def __del__(self) -> None:
        """Do nothing: the standard library's method logs."""

    def get_server(self) -> SharedMemoryServer:
        """Return a server for this process to run: see its ``serve_forever`` and ``address``."""
        self._require_state(State.INITIAL)
        self._check_key()
        server: SharedMemoryServer = self._make_server(self._address)
        return server

    def start(self, *args: Any, **kwds: Any) -> None:
        """Start the server process; see `BaseManager.start`."""
        # Both processes must use the same resource tracker, which removes leftover blocks.
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


SharedMemoryManager.register("_Segments", _TrackedBlocks)
