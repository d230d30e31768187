"""Decoding of a large result in a thread, so that other threads run meanwhile.

The core, and the unpickler of the standard library, keep the interpreter to themselves from the
first byte to the last. An unpickler that reads from an object of Python calls it for each piece,
and lets others run there.
"""

from __future__ import annotations

import pickle

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool._encoding import Outcome, undecodable

if TYPE_CHECKING:
    from garrison.pool._results import AsyncResult

__all__ = ["resolve_gently"]


class _Pieces:
    """A file of bytes in memory."""

    def __init__(self, data: Any) -> None:
        self._data = memoryview(data)
        self._at = 0

    def peek(self, size: int) -> memoryview:
        """Return the next bytes, and stay there: the unpickler asks for 128 KiB at a time."""
        return self._data[self._at : self._at + size]

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return bytes(found)

    def readinto(self, target: Any) -> int:
        """Copy the next bytes."""
        found = self._data[self._at : self._at + len(target)]
        target[: len(found)] = found
        self._at += len(found)
        return len(found)

    def readline(self) -> bytes:
        """Return the bytes up to the end of a line."""
        rest = bytes(self._data[self._at : self._at + 4096])
        line = rest.partition(b"\n")
        return self.read(len(line[0]) + len(line[1]))


def resolve_gently(result: AsyncResult[Any]) -> tuple[bool, Any]:
    """Decode an ended task's result, once; for a result of `ProcessBackend`."""
    task = result._task
    if result._outcome is None and not task.lost():
        try:
            raw = task.take()
        except RuntimeError:
            return result._resolve()  # it was taken already
        if raw[0] == Outcome.OK:
            result._outcome = _decode(*raw[1:3])
        else:
            result._raw = (None, *raw)
    return result._resolve()


def _decode(payload: Any, buffers: list[Any] | None) -> tuple[bool, Any]:
    try:
        return True, pickle.Unpickler(_Pieces(payload), buffers=buffers).load()  # noqa: S301 - written by a worker
    except Exception as error:
        failure = undecodable(error)
        failure.__cause__ = error
        return False, failure
