"""A channel of messages between two processes, over descriptors that are checked before each use.

A stored number may belong to another file when it is used: a program that becomes a daemon closes
all descriptors.
"""

from __future__ import annotations

import os
import socket
import struct
from multiprocessing import reduction, util

from garrison import _core, _os
from garrison._typing import Any

__all__ = ["DescriptorChannel", "descriptor_channels", "guard"]


_HEADER = struct.Struct("I")


class DescriptorChannel:
    """One end of a connection between two processes, for whole messages.

    Not a connection of the standard library: the import of its module takes a tenth of a start
    under spawn, and it closes whatever file has its number.
    """

    def __init__(self, fd: int) -> None:
        self._own = _core.Descriptor(fd)

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce it for a process that is being started."""
        return _arrive, (reduction.DupFd(self.fileno()),)

    @property
    def is_ours(self) -> bool:
        """Whether it is open, and its number does not belong to another file."""
        return self._own.is_ours

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._own.number

    @staticmethod
    def framed(message: bytes) -> bytes:
        """Return the bytes of a message on the way."""
        return _HEADER.pack(len(message)) + message

    def send(self, message: bytes) -> None:
        """Send a message, whatever its length."""
        left = memoryview(self.framed(message))
        while left:
            left = left[os.write(self.fileno(), left) :]

    def receive(self) -> bytes:
        """Return the next message.

        Raises
        ------
        EOFError
            If the other end is closed.
        """
        (length,) = _HEADER.unpack(self._read(_HEADER.size))
        return self._read(length)

    def _read(self, length: int) -> bytes:
        parts = []
        while length:
            part = os.read(self.fileno(), min(length, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def poll(self, seconds: float) -> bool:
        """Wait for a message, or the end; False after the timeout."""
        return _os.is_readable(self.fileno(), seconds)

    def close(self) -> None:
        """Close it, if it is still ours."""
        self._own.close()


def _arrive(duplicate: Any) -> DescriptorChannel:
    return DescriptorChannel(duplicate.detach())


def descriptor_channels() -> tuple[DescriptorChannel, DescriptorChannel]:
    """Return both ends of a connection: one to keep, and one for another process."""
    ours, theirs = socket.socketpair()
    return DescriptorChannel(ours.detach()), DescriptorChannel(theirs.detach())


def guard(popen: Any) -> None:
    """Close a started process's own descriptors only while they are its own."""
    plain = popen.finalizer
    owned = [_core.Descriptor(fd) for fd in plain._args]
    plain.cancel()
    popen.finalizer = util.Finalize(popen, _close, owned)


def _close(*owned: _core.Descriptor) -> None:
    for each in owned:
        each.close()
