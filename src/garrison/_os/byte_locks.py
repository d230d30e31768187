"""Locks on bytes of a file, which show that their owner is alive: the kernel releases them.

Such a lock belongs to an open file description, which a process makes for itself through ``/proc``.
If that fails, or before Linux 3.15, it belongs to the process: then it ends as soon as the process
closes any descriptor of the file, and a forked child does not have it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from garrison._core import Descriptor

__all__ = ["ByteLocks"]

_FLOCK = struct.Struct("hhqqi4x")
"""``struct flock``: type, whence, start, length, pid."""
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""Errors of systems, or sandboxes, without locks of open file descriptions."""


class ByteLocks:
    """Locks on bytes of a file, with one owner.

    Parameters
    ----------
    file : Descriptor
        Its open file description is the owner, unless it is shared.
    shared : bool
        Whether other processes have the description too: then this process is the owner.
    """

    def __init__(self, file: Descriptor, *, shared: bool = False) -> None:
        self._file = file
        self._of_process = shared
        self._borrowed = shared

    @classmethod
    def of(cls, file: Descriptor) -> ByteLocks:
        """Return locks with a new owner, on a file that other processes may have inherited."""
        try:
            return cls(Descriptor(file.reopen()))
        except OSError as error:
            if error.errno in {errno.EBADF, errno.EMFILE, errno.ENFILE}:
                raise
            return cls(file, shared=True)

    @property
    def end_with_any_descriptor(self) -> bool:
        """Whether they belong to the process, and end when it closes any descriptor of the file."""
        return self._of_process

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fileno()

    def lock(self, byte: int) -> bool:
        """Lock a byte; False if another owner has it."""
        try:
            self._call(fcntl.F_OFD_SETLK, fcntl.F_SETLK, fcntl.F_WRLCK, byte, 1)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            return False
        return True

    def unlock(self, byte: int) -> None:
        """Unlock a byte."""
        self._call(fcntl.F_OFD_SETLK, fcntl.F_SETLK, fcntl.F_UNLCK, byte, 1)

    def is_locked(self, byte: int, *, to_the_end: bool = False) -> bool:
        """Whether another owner has locked a byte, or any from there to the end."""
        length = 0 if to_the_end else 1
        answer = self._call(fcntl.F_OFD_GETLK, fcntl.F_GETLK, fcntl.F_WRLCK, byte, length)
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def _call(self, own: int, of_process: int, kind: int, byte: int, length: int) -> bytes:
        argument = _FLOCK.pack(kind, os.SEEK_SET, byte, length, 0)
        if not self._of_process:
            try:
                return fcntl.fcntl(self.fileno(), own, argument)
            except OSError as error:
                if error.errno not in _UNKNOWN:
                    raise
            self._of_process = True
        return fcntl.fcntl(self.fileno(), of_process, argument)

    def close(self) -> None:
        """Release all locks. Those of the process end with the file's own descriptor."""
        if not self._borrowed:
            self._file.close()
