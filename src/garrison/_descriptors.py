"""Descriptors of garrison's files, in this process and in others.

A stored number may belong to another file when it is used: a program that becomes a daemon closes
all descriptors. So each is checked before it is used or closed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from multiprocessing import reduction, util

from garrison import _core, _lending, _os
from garrison._typing import Any

__all__ = ["DescriptorChannel", "descriptor_channels", "guard", "open_fd_of_process"]


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

    def send(self, message: bytes) -> None:
        """Send a message, whatever its length."""
        left = memoryview(_HEADER.pack(len(message)) + message)
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


_ELSEWHERE = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP})
"""Errors of a ``/proc`` that does not show the process, or is not there."""


def open_fd_of_process(
    pid: int, fd: int, known_as: _os.FileId | None = None, address: str = ""
) -> int:
    """Open the memory that another process has open as a descriptor.

    Through ``/proc``, which is permitted for processes of the same user; in a ``chroot``, or after
    a change of user, by the supervisor; if ``/proc`` cannot be used, by the sender itself.

    Parameters
    ----------
    pid, fd : int
        The process, and its descriptor.
    known_as : tuple of int, optional
        Device and inode of the file.
    address : str, optional
        The socket on which the sender sends its descriptors, if it has one.

    Raises
    ------
    FileNotFoundError
        If the descriptor belongs to another file.
    OSError
        If it cannot be opened.
    """
    try:
        found = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _ELSEWHERE:
            raise
        found = _open_through_others(pid, fd, address, error)
    if known_as is not None and _os.file_id(found) != known_as:
        os.close(found)
        msg = "the sender has closed the descriptor, and its number belongs to another file"
        raise FileNotFoundError(msg)
    return found


def _open_through_others(pid: int, fd: int, address: str, first: OSError) -> int:
    for ask in (_core.copy_descriptor, _lending.request_fd):
        try:
            return ask(pid, fd)
        except OSError:
            continue
    if address:
        return _lending.receive_fd(address, fd)
    raise first
