"""The ends of a queue as the standard library has them: ``queue._reader`` and ``queue._writer``.

There it is a pipe, and code that waits for several objects waits for its descriptor. Here the
reading end makes a descriptor at its first use, which is readable exactly while the queue has an
item; see the core's ``watch``.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import reduction

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.sync._queues import QueueBase

__all__ = ["PipeEndStub", "Reader", "Writer", "check_parent"]


def check_parent() -> None:
    """Raise where a pipe would have no writer any more: no other process can put items.

    The core calls this now and then during a wait of a process that has closed its ``_writer``.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise EOFError


class PipeEndStub:
    """One end; the queue records whether it is closed in this process."""

    _puts = False

    def __init__(self, queue: QueueBase) -> None:
        self._queue = queue

    @property
    def closed(self) -> bool:
        """Whether this process has closed the end."""
        return self._queue._is_end_closed(self._puts)

    @property
    def readable(self) -> bool:
        """Whether it is the reading end."""
        return not self._puts

    @property
    def writable(self) -> bool:
        """Whether it is the writing end."""
        return self._puts

    def close(self) -> None:
        """Close the end in this process."""
        self._queue._close_end(self._puts)

    def _check_open(self) -> None:
        if self.closed:
            raise OSError("handle is closed")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._queue!r}>"


class Reader(PipeEndStub):
    """The reading end; `multiprocessing.connection.wait` accepts it."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while there is an item."""
        self._check_open()
        return self._queue._descriptor(False)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is an item within `timeout` seconds."""
        self._check_open()
        return self._queue._has_item(True, timeout)

    def recv(self) -> Any:
        """Wait for an item and take it."""
        self._check_open()
        return self._queue.get()

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Wait for an item, take it, and return its pickle."""
        data = bytes(reduction.ForkingPickler.dumps(self.recv()))
        if maxlength is not None and len(data) > maxlength:
            raise OSError("bad message length")
        return data


class Writer(PipeEndStub):
    """The writing end."""

    _puts = True

    def fileno(self) -> int:
        """Return a descriptor that is always writable."""
        self._check_open()
        return self._queue._descriptor(True)

    def send(self, obj: object) -> None:
        """Put an item."""
        self._check_open()
        self._queue.put(obj)

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Put a pickled item."""
        data = memoryview(buf).cast("B")
        end = len(data) if size is None else offset + size
        self.send(reduction.ForkingPickler.loads(data[offset:end]))
